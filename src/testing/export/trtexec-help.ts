/**
 * Options that `trtexec --help` lists, recorded by version: what the command line is held against
 * where there is no TensorRT. From the help of 10.5, and from NVIDIA's list of what 11 removed and
 * of what it takes without effect.
 */
const COMMON =
  `onnx profile minShapes optShapes maxShapes calibProfile inputIOFormats outputIOFormats memPoolSize
  profilingVerbosity avgTiming refit stripWeights stripAllWeights versionCompatible
  pluginInstanceNorm useRuntime leanDLLPath excludeLeanRuntime sparsity noTF32 stronglyTyped
  layerDeviceTypes buildDLAStandalone allowGPUFallback saveEngine loadEngine getPlanVersionOnly
  tacticSources noBuilderCache noCompilationCache errorOnTimingCacheMiss timingCacheFile preview
  builderOptimizationLevel maxTactics hardwareCompatibilityLevel skipInference shapes loadInputs
  iterations warmUp duration useProfile allocationStrategy dumpLayerInfo exportLayerInfo verbose device help`.split(
    /\s+/,
  );
const REMOVED_IN_11 =
  `fp16 bf16 int8 fp8 int4 best directIO precisionConstraints layerPrecisions layerOutputTypes
  calib minShapesCalib optShapesCalib maxShapesCalib restricted safe weightless`.split(/\s+/);

/** A help text as `trtexec` of that version prints it, cut down to its options. */
export function recordedHelp(packedVersion: number): string {
  const options = packedVersion >= 110_000 ? COMMON : [...COMMON, ...REMOVED_IN_11];
  const version = `[TensorRT v${packedVersion}]`;
  const banner = `&&&& RUNNING TensorRT.trtexec ${version} [b36] # trtexec --help`;
  const lines = options.map((option) => `  --${option}                             (recorded)`);
  return [banner, '=== Build Options ===', ...lines, ''].join('\n');
}
