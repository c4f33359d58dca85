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

{{- /* A value as the text of a variable: Helm reads numbers as floats and prints 1e+06. */ -}}
{{- define "sidegate.scalar" -}}
{{ ternary (toJson .) (toString .) (kindIs "float64" .) }}
{{- end }}

{{- define "sidegate.securityContext" -}}
runAsNonRoot: true
runAsUser: {{ int64 .uid }}
runAsGroup: {{ int64 .gid }}
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

{{- /* The sidecar's OTEL_* variables as the product reads them; `unknown` where the cluster fills one in that tells where spans go. */ -}}
{{- define "sidegate.otel" -}}
{{- $found := dict -}}
{{- range $name, $value := .Values.telemetry }}{{ $_ := set $found $name (include "sidegate.scalar" $value | trim) }}{{ end -}}
{{- range .Values.extraEnv -}}
{{- if regexMatch "^OTEL_(SDK_DISABLED|TRACES_EXPORTER|EXPORTER_OTLP_.+)$" .name -}}
{{- if or .valueFrom (contains "$(" (toString .value)) }}{{ $_ := set $found "unknown" "yes" }}{{ end -}}
{{- $_ := set $found .name (.value | default "" | toString | trim) -}}
{{- end -}}
{{- end -}}
{{- range $name := list "ENDPOINT" "PROTOCOL" "HEADERS" "INSECURE" -}}
{{- $traces := get $found (printf "OTEL_EXPORTER_OTLP_TRACES_%s" $name) -}}
{{- $_ := set $found $name ($traces | default (get $found (printf "OTEL_EXPORTER_OTLP_%s" $name))) -}}
{{- end -}}
{{- toYaml $found -}}
{{- end }}

{{- /* OPA's own spans go where the sidecar's go, as far as OPA can: to a host and port, without TLS, headers or path. The same
rules as in proxy/telemetry/destination.py and setup.py; tests/deploy/test_chart_traces.py compares both. */ -}}
{{- define "sidegate.opaTracing" -}}
{{- $otel := include "sidegate.otel" . | fromYaml -}}
{{- $exporters := get $otel "OTEL_TRACES_EXPORTER" | lower -}}
{{- $wanted := ternary (regexMatch "(^|,)\\s*otlp\\s*(,|$)" $exporters) (ne $otel.ENDPOINT "") (ne $exporters "") -}}
{{- if or $otel.unknown (eq (get $otel "OTEL_SDK_DISABLED" | lower) "true") (regexMatch "(^|,)\\s*[A-Za-z0-9_.-]+\\s*=" $otel.HEADERS) -}}
{{- $wanted = false -}}
{{- end -}}
{{- $grpc := eq $otel.PROTOCOL "grpc" -}}
{{- $url := $otel.ENDPOINT | default (ternary "http://localhost:4317" "http://localhost:4318" $grpc) -}}
{{- if and $grpc (not (contains "://" $url)) }}{{ $url = printf "%s://%s" (ternary "http" "https" (eq ($otel.INSECURE | lower) "true")) $url }}{{ end -}}
{{- $path := ternary "/?" "/v1/traces([?#].*)?" (empty (get $otel "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")) -}}
{{- if $grpc }}{{ $path = "([/?#].*)?" }}{{ end -}}
{{- $shape := printf "^(?i:http)://(?:[^/?#]*@)?([A-Za-z0-9._-]+|\\[[0-9A-Fa-f:.]+\\])(:[0-9]{1,5})?%s$" $path -}}
{{- if and $wanted (regexMatch $shape $url) -}}
{{- $host := regexReplaceAll $shape $url "${1}" -}}
{{- $port := regexReplaceAll $shape $url "${2}" -}}
- --set=distributed_tracing.type={{ ternary "grpc" "http" $grpc }}
- --set=distributed_tracing.address={{ $host }}{{ $port | default (ternary ":4317" "" $grpc) }}
- --set=distributed_tracing.service_name=opa
- --set=distributed_tracing.sample_percentage=0 # the call's own flag decides
{{- end -}}
{{- end }}

{{- /* Nine tenths of an emptyDir's bound, in bytes: at the bound itself the kubelet evicts the pod. */ -}}
{{- define "sidegate.volumeBytes" -}}
{{- div (include "sidegate.sizeLimit" .) 10 | mul 9 -}}
{{- end }}

{{- /* That bound, in bytes. */ -}}
{{- define "sidegate.sizeLimit" -}}
{{- $units := dict "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- $unit := get $units (regexFind "[A-Za-z]*$" .Values.state.sizeLimit) | default 1 -}}
{{- mul (regexFind "^[0-9]+" .Values.state.sizeLimit) $unit -}}
{{- end }}

{{- /* (list root, who): the Role of this name for the subjects of rbac.WHO. */ -}}
{{- define "sidegate.roleBinding" -}}
{{- $who := index . 1 -}}
{{- with index . 0 -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ include "sidegate.name" . }}-{{ $who }}
  namespace: {{ .Release.Namespace }}
  labels: {{- include "sidegate.labels" . | nindent 4 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: {{ include "sidegate.name" . }}-{{ $who }}}
subjects: {{- index .Values.rbac $who | toYaml | nindent 2 }}
{{- end -}}
{{- end }}

{{- define "sidegate.deskLabels" -}}
app.kubernetes.io/component: desk
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* Names that have to fit somewhere else, as sentences: Helm's own about a key names another place of the values. */ -}}
{{- define "sidegate.checkNames" -}}
{{- range $name, $_ := .Values.credentials }}{{ if not (regexMatch "^[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?$" $name) }}
{{- fail (printf "credentials.%s: a volume has this name, so take lower-case letters, digits and hyphens, at most 42, here and in the catalog" $name) }}
{{- end }}{{ end }}
{{- range $name, $_ := .Values.policy.bundle.teams }}{{ if not (regexMatch "^[a-z][a-z0-9_]*$" $name) }}
{{- fail (printf "policy.bundle.teams.%s: a Rego package has this name, so take lower-case letters, digits and underscores, a letter first" $name) }}
{{- end }}{{ end }}
{{- range $name, $_ := .Values.catalog.files }}{{ if not (regexMatch "^[A-Za-z0-9_-]+\\.ya?ml$" $name) }}
{{- fail (printf "catalog.files: %s is not the name of a catalog file; take one like crm.yaml" $name) }}
{{- end }}{{ end }}
{{- range $name, $_ := .Values.telemetry }}{{ if not (regexMatch "^OTEL_[A-Z0-9_]+$" $name) }}
{{- fail (printf "telemetry.%s: only variables whose names begin with OTEL_ stand here; others go into extraEnv" $name) }}
{{- end }}{{ end }}
{{- if not (regexMatch "^[1-9][0-9]{0,8}(Ki|Mi|Gi|k|M|G)?$|^[1-9][0-9]{0,3}(Ti|T)$" .Values.state.sizeLimit) }}
{{- fail (printf "state.sizeLimit: %s is not a size; write one like 1Gi or 500M" .Values.state.sizeLimit) }}
{{- end }}
{{- if and (or (not .Values.state.claim) .Values.desk.enabled) (lt (include "sidegate.sizeLimit" . | int64) 33554432) }}
{{- fail (printf "state.sizeLimit: %s is so little that the journal would not start; write 32Mi or more" .Values.state.sizeLimit) }}
{{- end }}
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
