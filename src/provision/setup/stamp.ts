import { stat } from 'node:fs/promises';
import { writeFileAtomic } from '../../model/files.ts';

/**
 * Notes that files were verified: one line each with bytes, modification time (whole seconds since
 * 1970) and path, as `stat -c '%s %Y %n'` prints them. While that still holds, `run.sh` skips the
 * set-up without starting anything else.
 *
 * @param files paths, relative to the working directory or absolute.
 * @throws ModelFileError when the stamp cannot be written.
 */
export async function writeStamp(stampPath: string, files: readonly string[]): Promise<void> {
  const lines = await Promise.all(
    files.map(async (file) => {
      const { size, mtimeMs } = await stat(file);
      return `${size} ${Math.floor(mtimeMs / 1000)} ${file}\n`;
    }),
  );
  await writeFileAtomic(stampPath, new TextEncoder().encode(lines.join('')));
}
