{{/* The name of the release's own objects. Cut, since a Service's name has 63 characters at most. */}}
{{- define "ai-sidecar.name" -}}
{{- if contains "ai-sidecar" .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-ai-sidecar" .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "ai-sidecar.injector" -}}
{{ include "ai-sidecar.name" . }}-injector
{{- end -}}

{{/* Cluster-wide objects carry the namespace too: two releases of one name must not share them. */}}
{{- define "ai-sidecar.cluster-name" -}}
{{ include "ai-sidecar.injector" . }}.{{ .Release.Namespace }}
{{- end -}}

{{- define "ai-sidecar.injector-tls" -}}
{{- if eq .Values.certificates.mode "given" -}}
{{ .Values.certificates.secretName }}
{{- else -}}
{{ include "ai-sidecar.injector" . }}-tls
{{- end -}}
{{- end -}}

{{- define "ai-sidecar.image" -}}
{{- with .Values.image -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{ with .digest }}@{{ . }}{{ end }}
{{- end -}}
{{- end -}}

{{/* What selects a component's pods: call with (list . "injector"). */}}
{{- define "ai-sidecar.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: ai-sidecar
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "ai-sidecar.labels" -}}
{{- $root := index . 0 -}}
{{ include "ai-sidecar.selector" . }}
app.kubernetes.io/part-of: ai-sidecar
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- end -}}

{{/* The restricted profile of the Pod Security Standards; the user is the image's. */}}
{{- define "ai-sidecar.pod-security" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "ai-sidecar.container-security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Zones first, then nodes; never a reason not to run. Call with (list . "injector"). */}}
{{- define "ai-sidecar.spread" -}}
{{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
- maxSkew: 1
  topologyKey: {{ . }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels: {{- include "ai-sidecar.selector" $ | nindent 6 }}
{{- end }}
{{- end -}}

{{/* Where a pod may run: call with .Values.injector or .Values.gateway. */}}
{{- define "ai-sidecar.scheduling" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{/*
sidecar.yaml: the text of `config`, and after it what only the platform knows, where the text is silent. Text,
since the order of `models` counts (the first match wins) and Helm's maps have none.
*/}}
{{- define "ai-sidecar.config" -}}
{{- $given := include "ai-sidecar.given" . | fromYaml -}}
{{- .Values.config | trimSuffix "\n" }}
{{- if not (hasKey $given "usage") }}
usage: {path: /var/lib/sidecar/usage.db}
{{- end }}
{{- if .Values.redis.secretKey }}
fleet: {redis: {file: /var/run/secrets/ai-sidecar/{{ .Values.redis.secretKey }}}, expected: {{ .Values.redis.expected }}}
{{- end }}
{{- if eq .Values.mode "gateway" }}
{{- if not (hasKey $given "listen") }}
listen: {hosts: {{ include "ai-sidecar.gateway-hosts" . }}}
{{- end }}
{{- if not (hasKey $given "drain") }}
# The Service sends new connections for some seconds after a pod began to leave.
drain: {min: 5s, max: 25s}
{{- end }}
{{- end }}
{{- end -}}

{{/* The names that callers have for the gateway, as a JSON list. */}}
{{- define "ai-sidecar.gateway-hosts" -}}
{{- $short := printf "%s.%s" (include "ai-sidecar.name" .) .Release.Namespace -}}
{{- list (include "ai-sidecar.name" .) $short (printf "%s.svc" $short) (printf "%s.svc.%s" $short .Values.gateway.clusterDomain) | toJson -}}
{{- end -}}

{{/* `config` as JSON, once it is sure that it can be the sidecar's. */}}
{{- define "ai-sidecar.given" -}}
{{- $given := .Values.config | fromYaml -}}
{{- with $given.Error -}}
{{- fail (printf "config: not the text of a YAML mapping: %s" .) -}}
{{- end -}}
{{- range list "providers" "models" -}}
{{- if not (index $given .) -}}
{{- fail (printf "config: %s is missing: give the text of a sidecar.yaml, as by --set-file config=sidecar.yaml" .) -}}
{{- end -}}
{{- end -}}
{{- range list "data" "admin" "control" "health" -}}
{{- if hasKey ($given.listen | default dict) . -}}
{{- fail (printf "config: listen.%s is set by the chart: remove it" .) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.redis.secretKey (hasKey $given "fleet") -}}
{{- fail "redis.secretKey: config has fleet already: keep one" -}}
{{- end -}}
{{- if eq .Values.mode "gateway" -}}
{{- if ne (dig "auth" "mode" "passthrough" $given) "keys" -}}
{{- fail "config: a gateway serves other pods, so it must know its callers: set auth.mode: keys, and list the keys or auth.service_accounts" -}}
{{- end -}}
{{- if hasKey $given "listen" -}}
{{- range include "ai-sidecar.gateway-hosts" . | fromJsonArray -}}
{{- if not (has . (dig "listen" "hosts" list $given)) -}}
{{- fail (printf "config: listen.hosts lacks %s, by which callers know the gateway: add it" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $given -}}
{{- end -}}
