{{/* Quantities of Kubernetes: what they stand for, and whether a container can start with them. */}}

{{/* The text of one amount, empty where there is none: call with (list .Values.sidecar.resources "limits" "cpu"). */}}
{{- define "ai-sidecar.amount" -}}
{{- $kind := index (index . 0 | default dict) (index . 1) | default dict -}}
{{- index $kind (index . 2) | default "" -}}
{{- end -}}

{{/* A container's resources, without the amounts that are null: call with .Values.injector.resources. */}}
{{- define "ai-sidecar.resources" -}}
{{- range $kind := list "limits" "requests" }}
{{- $amounts := dict }}
{{- range $what := list "cpu" "memory" }}
{{- with include "ai-sidecar.amount" (list $ $kind $what) }}
{{- $_ := set $amounts $what . }}
{{- end }}
{{- end }}
{{- with $amounts }}
{{ $kind }}: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The number that a quantity stands for, exact for what the schema lets in. */}}
{{- define "ai-sidecar.number" -}}
{{- $units := dict "" 1 "m" 0.001 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- mulf (regexFind "^[0-9.]+" .) (get $units (regexFind "[A-Za-z]*$" .)) -}}
{{- end -}}

{{/*
What the injector, or Kubernetes, would refuse: call with (list "sidecar.resources" .Values.sidecar.resources).
*/}}
{{- define "ai-sidecar.check-resources" -}}
{{- $name := index . 0 -}}
{{- range $what := list "cpu" "memory" -}}
{{- $request := include "ai-sidecar.amount" (list (index $ 1) "requests" $what) -}}
{{- $limit := include "ai-sidecar.amount" (list (index $ 1) "limits" $what) -}}
{{- range $kind, $text := dict "requests" $request "limits" $limit -}}
{{- if $text -}}
{{- include (print "ai-sidecar.check-" $what) (list (printf "%s.%s.%s: %s" $name $kind $what $text) $text) -}}
{{- end -}}
{{- end -}}
{{- if and $request $limit -}}
{{- if gt (include "ai-sidecar.number" $request | float64) (include "ai-sidecar.number" $limit | float64) -}}
{{- fail (printf "%s: requests.%s %s is more than limits.%s %s: change one; null takes the limit away" $name $what $request $what $limit) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "ai-sidecar.check-cpu" -}}
{{- $thousandths := include "ai-sidecar.number" (index . 1) | mulf 1000 -}}
{{- if le $thousandths 0.0 -}}
{{- fail (printf "%s is no CPU at all: set for example 50m" (index . 0)) -}}
{{- end -}}
{{- if ne $thousandths (floor $thousandths) -}}
{{- fail (printf "%s is finer than a thousandth of a CPU: round it" (index . 0)) -}}
{{- end -}}
{{- end -}}

{{- define "ai-sidecar.check-memory" -}}
{{- if lt (include "ai-sidecar.number" (index . 1) | float64) 33554432.0 -}}
{{- fail (printf "%s is under 32Mi, too little to start: is the unit right?" (index . 0)) -}}
{{- end -}}
{{- end -}}
