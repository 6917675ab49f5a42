{{/* sidecar.yaml, from the text of `config`. Text, since the order of `models` counts, and Helm's maps have none. */}}

{{/* The text, with what it lacks where the text has room for it: its comments and its order stay. */}}
{{- define "ai-sidecar.config" -}}
{{- $given := include "ai-sidecar.given" . | fromJson -}}
{{- $added := include "ai-sidecar.added" (list . $given) | trim -}}
{{- $text := .Values.config | trimPrefix "\ufeff" | replace "\r\n" "\n" -}}
{{- /* What may stand before the mapping: comments, directives, the mark of a document's start. */}}
{{- $head := regexFind "^([ \\t]*([#%].*)?\\n)*(---[ \\t]*(#.*)?\\n([ \\t]*(#.*)?\\n)*)?" $text -}}
{{- $body := trimPrefix $head $text -}}
{{- $end := regexFind "(?s)\\n\\.\\.\\.([ \\t\\n].*)?$" $body -}}
{{- if or (regexMatch "(?m)^---([ \\t]|$)" $body) (not (regexMatch "^(\\n(\\.\\.\\.)?[ \\t]*(#.*)?)*$" $end)) -}}
{{- fail "config: a second YAML document stands in it: keep one" -}}
{{- end -}}
{{- $body = trimSuffix $end $body | trimSuffix "\n" -}}
{{- $indent := regexFind "^ *" $body -}}
{{- if and $added (hasPrefix (print $indent "{") $body) -}}
{{- /* JSON, or YAML that looks like it. */}}
{{- $rest := trimPrefix (print $indent "{") $body -}}
{{- $body = printf "%s{\n%s\n%s" $indent (regexReplaceAll "(?m)^([^#].*)$" $added "${1}," | indent 2) $rest -}}
{{- else if $added -}}
{{- $body = printf "%s\n%s" $body (indent (len $indent) $added) -}}
{{- end -}}
{{- $made := printf "%s%s\n" $head $body -}}
{{- if ne ($made | fromYaml | toJson) (merge (.Values.config | fromYaml) ($added | fromYaml) | toJson) -}}
{{- fail (printf "config: the chart cannot add to it what it needs here (%s): write that yourself, or make the text a plain mapping, without a tag or an anchor before it" $added) -}}
{{- end -}}
{{- $made -}}
{{- end -}}

{{/* What only the platform knows, where the text is silent. Call with (list . $given). */}}
{{- define "ai-sidecar.added" -}}
{{- $root := index . 0 -}}
{{- $given := index . 1 -}}
{{- with $root.Values }}
{{- if not (hasKey $given "usage") }}
usage: {path: /var/lib/sidecar/usage.db}
{{- end }}
{{- if .redis.secretKey }}
fleet: {redis: {file: /var/run/secrets/ai-sidecar/{{ .redis.secretKey }}}, expected: {{ .redis.expected }}}
{{- end }}
{{- if eq .mode "gateway" }}
{{- if not (hasKey $given "listen") }}
listen: {hosts: {{ include "ai-sidecar.gateway-hosts" $root }}}
{{- end }}
{{- if not (hasKey $given "drain") }}
# The Service sends new connections for some seconds after a pod began to leave.
drain: {min: 5s, max: {{ include "ai-sidecar.drain-max" $given }}}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The names that callers have for the gateway, as a JSON list. */}}
{{- define "ai-sidecar.gateway-hosts" -}}
{{- $short := printf "%s.%s" (include "ai-sidecar.name" .) .Release.Namespace -}}
{{- list (include "ai-sidecar.name" .) $short (printf "%s.svc" $short) (printf "%s.svc.%s" $short .Values.gateway.clusterDomain) | toJson -}}
{{- end -}}

{{- define "ai-sidecar.drain-max" -}}
{{- dig "drain" "max" "25s" . -}}
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
{{- range list "providers" "models" "listen" "auth" "drain" -}}
{{- if hasKey $given . -}}
{{- include "ai-sidecar.check-kind" (list . (index $given .) "map") -}}
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
{{- include "ai-sidecar.check-secrets" $given -}}
{{- if eq .Values.mode "gateway" -}}
{{- include "ai-sidecar.check-gateway" (list . $given) -}}
{{- end -}}
{{- toJson $given -}}
{{- end -}}

{{/* A part of `config` is of the kind that is read here: call with (list "listen" $value "map"). */}}
{{- define "ai-sidecar.check-kind" -}}
{{- $found := kindOf (index . 1) -}}
{{- if ne $found (index . 2) -}}
{{- $words := dict "map" "keys with their values" "slice" "a list" "string" "a text" "bool" "true or false" "float64" "a number" "int64" "a number" "invalid" "nothing" -}}
{{- fail (printf "config: %s: expected %s, found %s: mend it, or remove it" (index . 0) (get $words (index . 2)) (get $words $found | default $found)) -}}
{{- end -}}
{{- end -}}

{{/* No secret is taken from an environment variable: the container has none but the chart's own. */}}
{{- define "ai-sidecar.check-secrets" -}}
{{- $secrets := dict -}}
{{- range $name, $provider := .providers -}}
{{- if kindIs "map" $provider -}}
{{- $_ := set $secrets (printf "providers.%s.api_key" $name) $provider.api_key -}}
{{- end -}}
{{- end -}}
{{- range list "fleet" "cache" -}}
{{- if kindIs "map" (index $ .) -}}
{{- $_ := set $secrets (printf "%s.redis" .) (index $ .).redis -}}
{{- end -}}
{{- end -}}
{{- range $path, $secret := $secrets -}}
{{- if and (kindIs "map" $secret) (hasKey ($secret | default dict) "env") -}}
{{- fail (printf "config: %s: the container has no variable %v: put the value into the Secret, and write {file: /var/run/secrets/ai-sidecar/NAME}, where NAME is its key there" $path $secret.env) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What a gateway must have: call with (list . $given). */}}
{{- define "ai-sidecar.check-gateway" -}}
{{- $root := index . 0 -}}
{{- $given := index . 1 -}}
{{- if ne (dig "auth" "mode" "passthrough" $given) "keys" -}}
{{- fail "config: a gateway serves other pods, so it must know its callers: set auth.mode: keys, and list the keys or auth.service_accounts" -}}
{{- end -}}
{{- if hasKey $given "listen" -}}
{{- $hosts := dig "listen" "hosts" list $given -}}
{{- include "ai-sidecar.check-kind" (list "listen.hosts" $hosts "slice") -}}
{{- range include "ai-sidecar.gateway-hosts" $root | fromJsonArray -}}
{{- if not (has . $hosts) -}}
{{- fail (printf "config: listen.hosts lacks %s, by which callers know the gateway: add it" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $max := include "ai-sidecar.drain-max" $given -}}
{{- if not (regexMatch "^[0-9]{1,9}(\\.[0-9]{1,6})?(ms|s|m|h|d)$" $max) -}}
{{- fail (printf "config: drain.max: %s is not a duration such as 25s" $max) -}}
{{- end -}}
{{- /* A stream that is cut at drain.max still gets its error event, and its log line is written. */}}
{{- $units := dict "ms" 0.001 "s" 1.0 "m" 60.0 "h" 3600.0 "d" 86400.0 -}}
{{- $needed := mulf (regexFind "^[0-9.]+" $max) (get $units (regexFind "[a-z]+$" $max)) | addf 5 | ceil | int64 -}}
{{- $grace := $root.Values.gateway.terminationGracePeriodSeconds | int64 -}}
{{- if lt $grace $needed -}}
{{- fail (printf "gateway.terminationGracePeriodSeconds: %d is too short for drain.max, which is %s: the pod would be killed with its streams. Set it to %d or more, or lower drain.max in config" $grace $max $needed) -}}
{{- end -}}
{{- end -}}
