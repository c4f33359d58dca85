{{- define "sidegate.name" -}}
{{ printf "%s-sidegate" .Release.Name | trunc 52 | trimSuffix "-" }}
{{- end }}

{{- define "sidegate.labels" -}}
app.kubernetes.io/name: sidegate
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- /* Pods with the sidecar: injected, or by an agent's own chart. */ -}}
{{- define "sidegate.selector" -}}
{matchExpressions: [{key: {{ .Values.injection.label }}, operator: In, values: ["true", included]}]}
{{- end }}

{{- define "sidegate.podLabels" -}}
{{ .Values.injection.label }}: included
{{- end }}

{{- /* (list image, what): the reference, or a sentence. */ -}}
{{- define "sidegate.image" -}}
{{- $image := index . 0 -}}{{- $what := index . 1 -}}
{{- if not $image.repository }}{{ fail (printf "%s.repository: say where the image is; deploy/Dockerfile builds it" $what) }}{{ end -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else if $image.tag -}}
{{ $image.repository }}:{{ $image.tag }}
{{- else -}}
{{ fail (printf "%s: set digest (better) or tag" $what) }}
{{- end -}}
{{- end }}

{{- define "sidegate.policyBundle" -}}
{{- $b := .Values.policy.bundle -}}
{{- if and .Values.policy.source (or $b.configMap $b.url) }}{{ fail "policy: set source or bundle, not both" }}{{ end -}}
{{- if and $b.configMap $b.url }}{{ fail "policy.bundle: set configMap or url, not both" }}{{ end -}}
{{- if not (or .Values.policy.source $b.configMap $b.url) -}}
{{- fail "policy: set source (policy.yaml) or bundle (what `sidegate policy build` made); without a policy nothing is allowed" -}}
{{- end -}}
{{- if and $b.url (not $b.publicKey) }}{{ fail "policy.bundle.publicKey: a bundle from a server has to be signed; name the key" }}{{ end -}}
{{- range $name, $t := $b.teams }}{{ if and $t.url (not $b.publicKey) }}{{ fail (printf "policy.bundle.publicKey: the bundle of team %s comes from a server and has to be signed; name the key" $name) }}{{ end }}{{ end -}}
{{- if or $b.configMap $b.url }}yes{{ end -}}
{{- end }}

{{- /* The text of a file that is given as text or as a mapping. */ -}}
{{- define "sidegate.text" -}}
{{- if kindIs "string" . }}{{ . }}{{ else }}{{ toYaml . }}{{ end -}}
{{- end }}

{{- define "sidegate.securityContext" -}}
runAsNonRoot: true
runAsUser: {{ .uid }}
runAsGroup: {{ .gid }}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- /* sidegate.yaml as a mapping. What the chart knows is the chart's; everything else is .Values.settings. */ -}}
{{- define "sidegate.settings" -}}
{{- $own := dict "state" "/var/lib/sidegate/state" "catalog" "/etc/sidegate/catalog" -}}
{{- $_ := set $own "agent_port" (printf "127.0.0.1:%v" .Values.ports.agent) -}}
{{- $_ := set $own "probe_port" (printf "0.0.0.0:%v" .Values.ports.probe) -}}
{{- if .Values.review.tlsSecret -}}
{{- $tls := dict "certificate" "/etc/sidegate/review-tls/tls.crt" "key" "/etc/sidegate/review-tls/tls.key" -}}
{{- $_ := set $own "review_port" (dict "listen" (printf "0.0.0.0:%v" .Values.ports.review) "tls" $tls) -}}
{{- else -}}
{{- $_ := set $own "review_port" (printf "127.0.0.1:%v" .Values.ports.review) -}}
{{- end -}}
{{- if include "sidegate.policyBundle" . -}}
{{- $_ := set $own "bundle" (include "sidegate.bundleSettings" . | fromYaml) -}}
{{- else -}}
{{- $_ := set $own "policy" "/etc/sidegate/policy/policy.yaml" -}}
{{- end -}}
{{- if eq .Values.mode "sidecars" -}}
{{- $opa := dict "mode" "external" "address" "unix:///run/sidegate/opa.sock" "bundle" "/run/sidegate/policy.tar.gz" -}}
{{- $_ := set $own "opa" $opa -}}
{{- end -}}
{{- range $name := list "tokens" "reviewers" -}}
{{- $given := index $.Values $name -}}{{- $made := dict -}}
{{- if $given.secret }}{{ $_ := set $made "file" (printf "/etc/sidegate/%s/%s" $name $given.key) }}{{ end -}}
{{- $issuers := $given.issuers -}}
{{- if and (eq $name "tokens") $.Values.identity.jwks -}}
{{- $issuers = append $issuers (include "sidegate.workloadIssuer" $ | fromYaml) -}}
{{- end -}}
{{- if $issuers }}{{ $_ := set $made "issuers" $issuers }}{{ end -}}
{{- if $made }}{{ $_ := set $own $name $made }}{{ end -}}
{{- end -}}
{{- $credentials := dict -}}
{{- range $name, $c := .Values.credentials -}}
{{- $file := printf "/etc/sidegate/credentials/%s/%s" $name $c.key -}}
{{- if eq $c.as "header" -}}
{{- $_ := set $credentials $name (dict "header_file" $file "header" (required (printf "credentials.%s.header: name the header" $name) $c.header)) -}}
{{- else -}}
{{- $_ := set $credentials $name (dict (printf "%s_file" $c.as) $file) -}}
{{- end -}}
{{- end -}}
{{- if $credentials }}{{ $_ := set $own "credentials" $credentials }}{{ end -}}
{{- if .Values.store.url }}{{ $_ := set $own "store" (include "sidegate.store" . | fromYaml) }}{{ end -}}
{{- range $key, $_ := .Values.settings -}}
{{- if or (hasKey $own $key) (has $key (list "policy" "policy_folders" "bundle" "opa" "tokens" "reviewers" "credentials" "store")) }}{{ fail (printf "settings.%s: the chart sets this from its other values; see values.yaml" $key) }}{{ end -}}
{{- end -}}
{{- toYaml (merge $own .Values.settings) -}}
{{- end }}

{{- define "sidegate.bundleSettings" -}}
{{- $b := .Values.policy.bundle -}}
platform: {{ $b.url | default (printf "/etc/sidegate/policy/%s" $b.key) }}
{{- if $b.teams }}
teams:
  {{- range $name, $t := $b.teams }}
  {{ $name }}: {{ $t.url | default (printf "/etc/sidegate/teams/%s/%s" $name ($t.key | default "policy.tar.gz")) }}
  {{- end }}
{{- end }}
{{- if $b.publicKey }}
key: /etc/sidegate/policy-key/{{ required "policy.bundle.publicKey.key: name the key of the ConfigMap or Secret" $b.publicKey.key }}
{{- end }}
{{- if $b.credential }}
credential: {{ $b.credential }}
{{- end }}
{{- end }}

{{- /* The cluster as an issuer: a workload is a principal, and its role is its own name. */ -}}
{{- define "sidegate.workloadIssuer" -}}
issuer: {{ required "identity.issuer: say which issuer the keys of identity.jwks are of (`kubectl get --raw /.well-known/openid-configuration`)" .Values.identity.issuer }}
audience: {{ required "identity.audience: say for whom the tokens are made, for example sidegate" .Values.identity.audience }}
jwks_file: /etc/sidegate/settings/workloads.json
claims: {roles: sub, name: sub}
{{- end }}

{{- define "sidegate.store" -}}
{{- $s := .Values.store -}}
valkey:
  url: {{ $s.url }}
  mac_key_file: /etc/sidegate/store/{{ $s.macKey }}
  {{- with $s.passwordKey }}
  password_file: /etc/sidegate/store/{{ . }}
  {{- end }}
  {{- with $s.caKey }}
  ca_file: /etc/sidegate/store/{{ . }}
  {{- end }}
  {{- range $key := list "username" "prefix" "deadline" "appendfsync" }}{{ with index $s $key }}
  {{ $key }}: {{ . }}
  {{- end }}{{ end }}
{{- end }}

{{- /* OPA's own spans go where the sidecar's go, as far as OPA can: to a host and port, without TLS, headers or path. */ -}}
{{- define "sidegate.opaTracing" -}}
{{- $to := index .Values.telemetry "OTEL_EXPORTER_OTLP_ENDPOINT" | default "" -}}
{{- if and (hasPrefix "http://" $to) (not (index .Values.telemetry "OTEL_EXPORTER_OTLP_HEADERS")) -}}
- --set=distributed_tracing.type={{ eq (index .Values.telemetry "OTEL_EXPORTER_OTLP_PROTOCOL" | default "") "grpc" | ternary "grpc" "http" }}
- --set=distributed_tracing.address={{ (urlParse $to).host }}
- --set=distributed_tracing.service_name=opa
- --set=distributed_tracing.sample_percentage=0 # the call's own flag decides
{{- end -}}
{{- end }}

{{- /* Every port of ours, for the guard. */ -}}
{{- define "sidegate.ports" -}}
{{ int .Values.ports.agent }}, {{ int .Values.ports.probe }}, {{ int .Values.ports.review }}, {{ int .Values.ports.opaHealth }}
{{- end }}

{{- define "sidegate.notInSystem" -}}
{{- if has .Release.Namespace (list "kube-system" "kube-public" "kube-node-lease") -}}
{{- fail (printf "injection: not in %s, where pods that the cluster needs would depend on it; install into the agents' namespace" .Release.Namespace) -}}
{{- end -}}
{{- end }}

{{- /* A YAML value as a CEL literal. `dyn` everywhere: Kubernetes compiles CEL with literals of one type only. */ -}}
{{- define "sidegate.cel" -}}
{{- if kindIs "map" . -}}
{ {{- $first := true }}{{ range $key, $value := . }}{{ if not $first }}, {{ end }}{{ $first = false }}{{ $key | toJson }}: dyn({{ include "sidegate.cel" $value }}){{ end -}} }
{{- else if kindIs "slice" . -}}
[ {{- range $at, $value := . }}{{ if $at }}, {{ end }}dyn({{ include "sidegate.cel" $value }}){{ end -}} ]
{{- else -}}
{{ toJson . }}
{{- end -}}
{{- end }}
