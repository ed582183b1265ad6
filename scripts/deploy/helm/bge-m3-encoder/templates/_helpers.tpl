{{/* What the objects' names begin with. */}}
{{- define "encoder.name" -}}
{{- $chart := include "encoder.chartName" . -}}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains $chart .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name $chart | trunc 50 | trimSuffix "-" }}{{ end -}}
{{- end }}

{{- define "encoder.chartName" -}}
{{ .Values.nameOverride | default .Chart.Name | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "encoder.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: {{ .Chart.Name }}
{{- end }}

{{/* Labels of an object that belongs to no one part. */}}
{{- define "encoder.sharedLabels" -}}
{{ include "encoder.labels" . }}
app.kubernetes.io/name: {{ include "encoder.chartName" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* What tells the pods of one part. Called with (list . "part"). */}}
{{- define "encoder.selector" -}}
app.kubernetes.io/name: {{ include "encoder.chartName" (index . 0) }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "encoder.image" -}}
{{- with .Values.image }}
{{- if .digest }}{{ .repository }}@{{ .digest }}
{{- else }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end }}

{{- define "encoder.port" -}}
{{ int (default 8080 .Values.settings.PORT) }}
{{- end }}

{{- define "encoder.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "encoder.name" .) }}
{{- end }}

{{- define "encoder.graceSeconds" -}}
{{- $ms := add (int .Values.drain.delayMs) (int .Values.drain.timeoutMs) -}}
{{ add (div (add $ms 999) 1000) (int .Values.drain.marginSeconds) }}
{{- end }}

{{- define "encoder.hasTriton" -}}
{{- if or (eq .Values.backend "sidecar") (eq .Values.backend "apart") }}yes{{ end -}}
{{- end }}

{{/* A setting as the server reads it: YAML has made numbers of digits and truths of on and off. */}}
{{- define "encoder.setting" -}}
{{- if kindIs "bool" . }}{{ ternary "on" "off" . }}
{{- else if kindIs "float64" . }}{{ int64 . }}
{{- else }}{{ . }}{{ end -}}
{{- end }}

{{- define "encoder.podSecurity" -}}
runAsNonRoot: true
{{- with .Values.podSecurity.runAsUser }}
runAsUser: {{ int64 . }}
runAsGroup: {{ int64 . }}
{{- end }}
{{- with .Values.podSecurity.fsGroup }}
fsGroup: {{ int64 . }}
{{- end }}
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "encoder.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}

{{/* Pods of one part on different nodes and zones, as far as there are any. */}}
{{- define "encoder.spread" -}}
{{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
- maxSkew: 1
  topologyKey: {{ $key }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels: {{- include "encoder.selector" $ | nindent 6 }}
  matchLabelKeys: [pod-template-hash]
{{- end }}
{{- end }}

{{/* The environment of the encoder: what the chart decides, then `settings`, then secrets. */}}
{{- define "encoder.environment" -}}
{{- $decided := dict
  "HOST" ""
  "PORT" (include "encoder.port" .)
  "SHUTDOWN_DELAY_MS" .Values.drain.delayMs
  "DRAIN_TIMEOUT_MS" .Values.drain.timeoutMs
  "BACKEND" (ternary "embedded" "triton" (eq .Values.backend "embedded")) -}}
{{- if eq .Values.backend "sidecar" }}{{ $_ := set $decided "TRITON_URL" "http://127.0.0.1:8000" }}
{{- else if eq .Values.backend "apart" }}
{{- $_ := set $decided "TRITON_URL" (printf "http://%s-triton:8000" (include "encoder.name" .)) }}
{{- else if eq .Values.backend "external" }}
{{- $_ := set $decided "TRITON_URL" (required "backend external needs triton.url" .Values.triton.url) }}
{{- end }}
{{- if .Values.tls.existingSecret }}
{{- $_ := set $decided "TLS_CERT" "/etc/encoder/tls/tls.crt" }}
{{- $_ := set $decided "TLS_KEY" "/etc/encoder/tls/tls.key" }}
{{- end }}
{{- if .Values.keys.existingSecret }}{{ $_ := set $decided "API_KEYS_FILE" "/etc/encoder/keys/keys" }}{{ end }}
{{- if .Values.models.existingClaim }}{{ $_ := set $decided "MODELS_DIR" "/models" }}{{ end }}
{{- range $name, $value := merge (dict) .Values.settings $decided }}
- name: {{ $name }}
  value: {{ include "encoder.setting" $value | quote }}
{{- end }}
{{- range $name, $from := .Values.secretSettings }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef: { name: {{ $from.name | quote }}, key: {{ $from.key | quote }} }
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* A request of a probe, by HTTP, or by the program itself where it listens on a Unix socket. */}}
{{- define "encoder.probe" -}}
{{- $root := index . 0 }}{{ $path := index . 1 -}}
{{- if $root.Values.settings.UNIX_SOCKET }}
exec:
  command:
    - bun
    - -e
    - >-
      const unix = process.env.UNIX_SOCKET, tls = { rejectUnauthorized: false };
      const url = (process.env.TLS_CERT ? 'https' : 'http') + '://localhost{{ $path }}';
      process.exit((await fetch(url, { unix, tls })).ok ? 0 : 1)
{{- else }}
httpGet:
  path: {{ $path }}
  port: http
  scheme: {{ ternary "HTTPS" "HTTP" (ne $root.Values.tls.existingSecret "") }}
{{- end }}
{{- end }}

{{- define "encoder.dnsEgress" }}
# Names. Cluster DNS listens on other ports behind its Service on some platforms.
- ports:
    - { protocol: UDP, port: 53 }
    - { protocol: TCP, port: 53 }
    - { protocol: UDP, port: 5353 }
    - { protocol: TCP, port: 5353 }
{{- end }}
