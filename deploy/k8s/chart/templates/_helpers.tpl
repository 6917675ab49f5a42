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

{{/*
The MutatingWebhookConfiguration. Whoever wrote caBundle owns that field (the injector, cert-manager or helm), and
the API server lets nobody else write it. So each kind of certificate has an object of its own, and a change of the
kind is a new object: the old one goes, with its owner.
*/}}
{{- define "ai-sidecar.webhook" -}}
{{ include "ai-sidecar.cluster-name" . }}
{{- with .Values.certificates.mode }}{{ if ne . "managed" }}.{{ lower . }}{{ end }}{{ end -}}
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
