import { ServerError } from '../base/errors.ts';
import { type ModelManifest, modelNamesOf } from '../model/manifest.ts';
import type { ApiContext } from './context.ts';
import { type Field, STRING } from './fields.ts';

/** With STRICT_MODEL it must be a name of the model that is served. */
export function modelField({ manifest, limits }: ApiContext): Field<string> {
  const description = `This server has ${manifest.id} alone, and every reply names it.`;
  if (!limits.strictModel) return { ...STRING, schema: { ...STRING.schema, description } };
  return {
    schema: { type: 'string', enum: [...modelNamesOf(manifest)], description },
    isRequired: true,
    read(value, at) {
      const name = STRING.read(value, at);
      refuseForeignModel(manifest, name);
      return name;
    },
  };
}

/** @throws ServerError EMB_MODEL_UNKNOWN unless it is the model's id, or its name on its hub. */
export function refuseForeignModel(manifest: ModelManifest, name: string): void {
  const names = modelNamesOf(manifest);
  if (names.includes(name)) return;
  const known = names.map((one) => `"${one}"`).join(' or ');
  throw modelUnknown(manifest, name, `model must be ${known}, not "${name.slice(0, 100)}".`);
}

/** EMB_MODEL_UNKNOWN, in the words of an API. */
export function modelUnknown(manifest: ModelManifest, name: string, message: string): ServerError {
  return new ServerError('EMB_MODEL_UNKNOWN', message, {
    field: 'model',
    limit: modelNamesOf(manifest).join(' or '),
    value: name.slice(0, 100),
  });
}
