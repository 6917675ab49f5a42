"""The Kubernetes injector: pods that ask for the sidecar get it, on their way into the cluster or in a file.

Names that manifests and users rely on:

    process        sidecar injector --image REF [--mode native|classic] [--default NAME=VALUE ...]
                     (--cert FILE --key FILE  |  --managed SECRET --service NAME --webhook NAME)
                     [--port 8443] [--health-port 9902]
    webhook        POST /inject on 8443, TLS 1.2 or newer, AdmissionReview v1, at most 3 MiB
    log            whose pod was let in without a sidecar, and why, at WARNING; the same at most once a minute
    health         /livez /readyz /metrics on 9902, plain HTTP, all interfaces, IPv4 and IPv6
    --cert --key   PEM files (cert-manager's tls.crt and tls.key, or your own); a change is served within 2 s
    --managed      the injector makes its own authority and certificate and keeps them in this Secret
                     (tls.crt tls.key ca.crt ca.key) of its own namespace, for the host names
                     NAME.NAMESPACE.svc of --service, and writes caBundle into every entry of the
                     MutatingWebhookConfiguration of --webhook. It needs get, create, update on secrets in its
                     namespace, get and patch on that MutatingWebhookConfiguration, its ServiceAccount's token
    namespace      label ai-sidecar/injection: enabled
    pod            label ai-sidecar/inject: "true" or "false"; it wins over the namespace
    annotations    ai-sidecar/NAME on the pod; --default takes the same names for all pods:
                     image config secret port health-port admin-port log-level env token-audience
                     cpu-request cpu-limit memory-request memory-limit (an empty amount is none)
    defaults       config=ai-sidecar secret=ai-sidecar-key port=8080 health-port=9902 admin-port=9901
                     log-level=info env=on cpu-request=50m memory-request=64Mi memory-limit=256Mi

The API server selects (namespaceSelector, objectSelector): the handler sees no namespace labels. So two
entries in the webhook configuration: namespaces with injection=enabled and pods with inject NotIn ["false"];
all other namespaces and pods with inject=true. CREATE of pods, sideEffects None, reinvocationPolicy IfNeeded.

What a pod gets:

    container      ai-sidecar, first in initContainers with restartPolicy Always (native, Kubernetes 1.29 or
                     newer) or last in containers (classic); UID and GID 10001; port sidecar-health on the
                     pod's IP; arguments: run --config /etc/sidecar/sidecar.yaml
    volumes        ai-sidecar-config  ConfigMap, optional  at /etc/sidecar (key sidecar.yaml)
                   ai-sidecar-key     Secret, optional     at /var/run/secrets/ai-sidecar (key api-key)
                   ai-sidecar-data    emptyDir in memory   at /var/lib/sidecar (usage.db)
                   ai-sidecar-run     emptyDir in memory   at /run/sidecar (control.sock)
                   ai-sidecar-no-account  emptyDir, read only  where the app's ServiceAccount token would be
                   ai-sidecar-token   projected, if asked  at /var/run/secrets/ai-sidecar-token (file token)
    resources      the four amounts; in a Guaranteed pod limits that equal the requests, so that it stays so
    sidecar's env  SIDECAR_TEAM (namespace) SIDECAR_REGION SIDECAR_ZONE (the pod's topology labels)
                     SIDECAR_POD_IP SIDECAR_LISTEN_DATA SIDECAR_LISTEN_ADMIN SIDECAR_LISTEN_CONTROL
                     SIDECAR_LISTEN_HEALTH SIDECAR_LOG_LEVEL SIDECAR_WAIT_FOR_CONFIG
    app's env      OPENAI_BASE_URL ANTHROPIC_BASE_URL OPENAI_API_KEY, where absent
"""
