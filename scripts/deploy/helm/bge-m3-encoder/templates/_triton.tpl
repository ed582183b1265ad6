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
resources:
  {{- $resources := deepCopy .Values.triton.resources }}
  {{- $limits := merge (dict .Values.triton.gpu 1) ($resources.limits | default dict) }}
  {{- toYaml (merge (dict "limits" $limits) $resources) | nindent 2 }}
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

{{/* Brings the engine into the pod. */}}
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

{{- define "encoder.tritonVolumes" -}}
- name: shared-memory
  emptyDir: { medium: Memory, sizeLimit: {{ .Values.triton.sharedMemory }} }
{{ include "encoder.engineVolume" . }}
{{- end }}

{{- define "encoder.engineVolume" -}}
- name: engine
  {{- if eq .Values.engine.source "objectStore" }}
  emptyDir: { sizeLimit: {{ .Values.engine.objectStore.sizeLimit }} }
  {{- else }}
  persistentVolumeClaim: { claimName: {{ .Values.engine.existingClaim | quote }}, readOnly: true }
  {{- end }}
{{- end }}

{{/* What a node must be for Triton. */}}
{{- define "encoder.tritonPlace" -}}
{{- with .Values.triton.runtimeClassName }}
runtimeClassName: {{ . | quote }}
{{- end }}
{{- with .Values.triton.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.triton.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
