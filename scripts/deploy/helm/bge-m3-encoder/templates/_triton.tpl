{{/* The Triton container: in the encoder's pod a sidecar, otherwise the pod's own. */}}
{{- define "encoder.triton" -}}
name: triton
image: {{ .Values.triton.image | quote }}
imagePullPolicy: {{ .Values.triton.pullPolicy }}
args:
  - tritonserver
  - --model-repository=/models
  # The configuration that the export wrote for this engine; config.pbtxt where there is none.
  - --model-config-name=engine
  # It would put a dynamic_batching back, which joins batches past their profile.
  - --disable-auto-complete-config
  # The server speaks HTTP; one door fewer.
  - --allow-grpc=false
  - --exit-timeout-secs={{ div (add (int .Values.drain.timeoutMs) 999) 1000 }}
  {{- with .Values.triton.extraArgs }}{{ toYaml . | nindent 2 }}{{ end }}
ports:
  - { name: triton, containerPort: 8000 }
  - { name: triton-metrics, containerPort: 8002 }
securityContext: {{- include "encoder.containerSecurity" . | nindent 2 }}
resources: {{- include "encoder.withGpu" (list . .Values.triton.resources) | nindent 2 }}
# Reading an engine of more than a gigabyte from a cold disk.
startupProbe:
  httpGet: { path: /v2/health/ready, port: triton }
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: {{ max 1 (div (int .Values.triton.startSeconds) 5) }}
readinessProbe:
  httpGet: { path: /v2/health/ready, port: triton }
  periodSeconds: 5
  timeoutSeconds: 5
livenessProbe:
  httpGet: { path: /v2/health/live, port: triton }
  periodSeconds: 10
  timeoutSeconds: 10
  failureThreshold: 6
volumeMounts:
  - { name: engine, mountPath: /models/bge_model, subPath: bge_model, readOnly: true }
  - { name: shared-memory, mountPath: /dev/shm }
  - { name: tmp, mountPath: /tmp }
{{- end }}

{{/* Resources and a GPU. Called with (list . resources). */}}
{{- define "encoder.withGpu" -}}
{{- $resources := deepCopy (index . 1) }}
{{- $limits := merge (dict (index . 0).Values.triton.gpu 1) ($resources.limits | default dict) }}
{{- toYaml (merge (dict "limits" $limits) $resources) }}
{{- end }}

{{/* Brings the engine into the pod: init containers, where it does not come by a volume. */}}
{{- define "encoder.bringEngine" -}}
{{- if eq .Values.engine.source "objectStore" }}{{ include "encoder.fetchEngine" . }}
{{- else if eq .Values.engine.source "build" }}{{ include "encoder.buildEngine" . }}{{ end -}}
{{- end }}

{{- define "encoder.fetchEngine" -}}
{{- with .Values.engine.objectStore }}
- name: fetch-engine
  image: {{ .image | quote }}
  args: {{- toYaml .args | nindent 4 }}
  {{- with .envFromSecret }}
  envFrom:
    - secretRef: { name: {{ . | quote }} }
  {{- end }}
  securityContext: {{- include "encoder.containerSecurity" $ | nindent 4 }}
  volumeMounts:
    - { name: engine, mountPath: /engine }
    - { name: tmp, mountPath: /tmp }
{{- end }}
{{- end }}

{{/*
Triton's image has the programs that build and prove an engine, ours has the export and Bun: ours
comes to theirs in a volume. The kubelet hands the GPU of an init container on to the pod's Triton.
*/}}
{{- define "encoder.buildEngine" -}}
- name: copy-export
  image: {{ include "encoder.image" . | quote }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  command: [sh, -ec]
  args:
    - |
      cd /app
      cp -r "$(command -v bun)" package.json node_modules src /encoder
      mkdir -p /encoder/models
      cp -r models/*.json models/bge_model /encoder/models
  securityContext: {{- include "encoder.containerSecurity" . | nindent 4 }}
  volumeMounts:
    - { name: export, mountPath: /encoder }
- name: build-engine
  image: {{ .Values.triton.image | quote }}
  imagePullPolicy: {{ .Values.triton.pullPolicy }}
  # The image's entrypoint stays in front: it makes a newer CUDA run on an older driver.
  args:
    - timeout
    - --verbose
    - --kill-after=30
    - {{ int .Values.engine.build.timeoutSeconds | quote }}
    - /encoder/bun
    - /encoder/src/provision/export.ts
    - --here
    - --model={{ .Values.settings.MODEL | default "bge-m3" }}
    - --image={{ .Values.triton.image }}
    - --models-dir={{ ternary "/models" "/encoder/models" (ne .Values.models.existingClaim "") }}
    # Slices of a GPU have its name, and less of it.
    - --store=/engines/{{ .Values.triton.gpu | replace "/" "-" }}
    - --into=/engine
    {{- with .Values.engine.build.args }}{{ toYaml . | nindent 4 }}{{ end }}
  env:
    - { name: ORT_DISABLE_TELEMETRY, value: "1" }
    - { name: DO_NOT_TRACK, value: "1" }
    {{- with .Values.settings.BATCH_TOKENS_MAX }}
    - { name: BATCH_TOKENS_MAX, value: {{ include "encoder.setting" . | quote }} }
    {{- end }}
    {{- with .Values.engine.build.env }}{{ toYaml . | nindent 4 }}{{ end }}
  securityContext: {{- include "encoder.containerSecurity" . | nindent 4 }}
  resources: {{- include "encoder.withGpu" (list . .Values.engine.build.resources) | nindent 4 }}
  volumeMounts:
    - { name: export, mountPath: /encoder, readOnly: true }
    - { name: engines, mountPath: /engines }
    - { name: engine, mountPath: /engine }
    - { name: tmp, mountPath: /tmp }
    {{- if .Values.models.existingClaim }}
    - { name: models, mountPath: /models, readOnly: true }
    {{- end }}
{{- end }}

{{/* Of a pod with Triton: what its start may take, from the engine's source to the engine loaded. */}}
{{- define "encoder.tritonStartSeconds" -}}
{{- $build := ternary (int .Values.engine.build.timeoutSeconds) 0 (eq .Values.engine.source "build") }}
{{- add (int .Values.triton.startSeconds) $build }}
{{- end }}

{{- define "encoder.tritonVolumes" -}}
- name: shared-memory
  emptyDir: { medium: Memory, sizeLimit: {{ .Values.triton.sharedMemory }} }
{{ include "encoder.engineVolume" . }}
{{- end }}

{{- define "encoder.engineVolume" -}}
- name: engine
  {{- if eq .Values.engine.source "objectStore" }}
  emptyDir: { sizeLimit: {{ .Values.engine.objectStore.sizeLimit }} }
  {{- else if eq .Values.engine.source "build" }}
  emptyDir: { sizeLimit: {{ .Values.engine.build.sizeLimit }} }
- name: export
  emptyDir: { sizeLimit: 1Gi }
- name: engines
  persistentVolumeClaim: { claimName: {{ include "encoder.enginesClaim" . | quote }} }
  {{- else }}
  persistentVolumeClaim: { claimName: {{ .Values.engine.existingClaim | quote }}, readOnly: true }
  {{- end }}
{{- end }}

{{- define "encoder.enginesClaim" -}}
{{ .Values.engine.build.existingClaim | default (printf "%s-engines" (include "encoder.name" .)) }}
{{- end }}

{{/* What a node must be for Triton. */}}
{{- define "encoder.tritonPlace" -}}
{{- with .Values.triton.runtimeClassName }}
runtimeClassName: {{ . | quote }}
{{- end }}
{{- $selector := .Values.triton.nodeSelector }}
{{- $tolerations := .Values.triton.tolerations }}
{{- if eq .Values.backend "sidecar" }}
{{- /* One pod has both, and goes where either may. */}}
{{- $selector = merge dict $selector .Values.nodeSelector }}
{{- $tolerations = concat $tolerations .Values.tolerations }}
{{- end }}
{{- with $selector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
