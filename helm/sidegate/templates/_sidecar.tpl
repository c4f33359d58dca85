{{- /* What a pod needs to be guarded: initContainers, volumes. An agent's own chart includes them with `.Subcharts.sidegate`. */ -}}

{{- define "sidegate.initContainers" -}}
{{- if eq .Values.mode "sidecars" -}}
# OPA ends at once where its bundle is missing: so the bundle is verified and put there before it starts.
- name: sidegate-install
  {{- include "sidegate.container" . | nindent 2 }}
  args: [policy, install, --settings, /etc/sidegate/settings/sidegate.yaml]
- name: sidegate-opa
  restartPolicy: Always
  image: {{ include "sidegate.image" (list .Values.opa.image "opa.image") }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  args:
    - run
    - --server
    - --addr=unix:///run/sidegate/opa.sock
    - --unix-socket-perm=770
    - --diagnostic-addr=:{{ .Values.ports.opaHealth }}
    - --watch
    - --log-level=error
    - --skip-version-check
    {{- with include "sidegate.opaTracing" . }}{{ . | nindent 4 }}{{ end }}
    - --bundle # a switch: the file is what follows
    - /run/sidegate/policy.tar.gz
  env:
    - {name: GOMAXPROCS, value: "1"}
    - {name: GOGC, value: "400"}
    - {name: GOMEMLIMIT, value: 128MiB} # four fifths of its limit: with GOGC alone the heap outgrows that
  securityContext:
    {{- include "sidegate.securityContext" (dict "uid" .Values.security.opaUid "gid" .Values.security.gid) | nindent 4 }}
  resources: {{- toYaml .Values.opa.resources | nindent 4 }}
  startupProbe: {httpGet: {path: "/health?bundles", port: {{ .Values.ports.opaHealth }}}, periodSeconds: 1, failureThreshold: 60}
  livenessProbe: {httpGet: {path: /health, port: {{ .Values.ports.opaHealth }}}, periodSeconds: 10, failureThreshold: 3}
  volumeMounts:
    - {name: sidegate-run, mountPath: /run/sidegate}
{{ end -}}
- name: sidegate
  restartPolicy: Always
  {{- include "sidegate.container" . | nindent 2 }}
  args: [serve, --settings, /etc/sidegate/settings/sidegate.yaml]
  ports:
    - {name: sidegate-probe, containerPort: {{ .Values.ports.probe }}}
    {{- if .Values.review.tlsSecret }}
    - {name: sidegate-review, containerPort: {{ .Values.ports.review }}}
    {{- end }}
  startupProbe: {httpGet: {path: /healthz/ready, port: {{ .Values.ports.probe }}}, periodSeconds: 1, failureThreshold: 60}
  readinessProbe: {httpGet: {path: /healthz/ready, port: {{ .Values.ports.probe }}}, periodSeconds: 5, failureThreshold: 2}
  livenessProbe: {httpGet: {path: /healthz/live, port: {{ .Values.ports.probe }}}, periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 3}
{{- end }}

{{- /* Measured, tests/pod/README.md. In mode single OPA lives in the same container. */ -}}
{{- define "sidegate.resources" -}}
{{- $memory := eq .Values.mode "single" | ternary "320Mi" "192Mi" -}}
requests: {cpu: 100m, memory: {{ $memory }}}
limits: {memory: {{ $memory }}}
{{- end }}

{{- define "sidegate.container" -}}
{{- include "sidegate.process" (list . "sidegate") }}
resources: {{- .Values.resources | default (include "sidegate.resources" . | fromYaml) | toYaml | nindent 2 }}
volumeMounts:
  {{- include "sidegate.sharedMounts" . | nindent 2 }}
  - {name: sidegate-catalog, mountPath: /etc/sidegate/catalog, readOnly: true}
  {{- if or .Values.policy.source .Values.policy.bundle.configMap }}
  - {name: sidegate-policy, mountPath: /etc/sidegate/policy, readOnly: true}
  {{- end }}
  {{- range $name, $t := .Values.policy.bundle.teams }}{{ if $t.configMap }}
  - {name: sidegate-team-{{ $name | replace "_" "-" }}, mountPath: /etc/sidegate/teams/{{ $name }}, readOnly: true}
  {{- end }}{{ end }}
  {{- if .Values.policy.bundle.publicKey }}
  - {name: sidegate-policy-key, mountPath: /etc/sidegate/policy-key, readOnly: true}
  {{- end }}
  {{- if .Values.tokens.secret }}
  - {name: sidegate-tokens, mountPath: /etc/sidegate/tokens, readOnly: true}
  {{- end }}
  {{- range $name, $_ := .Values.credentials }}
  - {name: sidegate-credential-{{ $name }}, mountPath: /etc/sidegate/credentials/{{ $name }}, readOnly: true}
  {{- end }}
  {{- if eq .Values.mode "sidecars" }}
  - {name: sidegate-run, mountPath: /run/sidegate}
  {{- end }}
  {{- with .Values.extraVolumeMounts }}{{ toYaml . | nindent 2 }}{{ end }}
{{- end }}

{{- /* (list root, container): what sidecar and desk have in common. */ -}}
{{- define "sidegate.process" -}}
{{- $container := index . 1 -}}
{{- with index . 0 -}}
image: {{ include "sidegate.image" (list .Values.image "image") }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
env:
  - {name: SIDEGATE_AGENT__POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
  - {name: SIDEGATE_AGENT__NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
  - {name: SIDEGATE_AGENT__SERVICE_ACCOUNT, valueFrom: {fieldRef: {fieldPath: spec.serviceAccountName}}}
  - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
  - {name: SIDEGATE_PROBE_PORT, value: "[$(POD_IP)]:{{ .Values.ports.probe }}"} # whichever IP version the pod has
  {{- if .Values.review.tlsSecret }}
  - {name: SIDEGATE_REVIEW_PORT__LISTEN, value: "[$(POD_IP)]:{{ .Values.ports.review }}"}
  {{- end }}
  {{- if and (or (not .Values.state.claim) (eq $container "desk")) (not (dig "limits" "state_bytes" "" .Values.settings)) }}
  - {name: SIDEGATE_LIMITS__STATE_BYTES, value: "{{ include "sidegate.volumeBytes" . }}"}
  {{- end }}
  {{- $given := list }}{{ range .Values.extraEnv }}{{ $given = append $given .name }}{{ end }}
  {{- if not (has "OTEL_RESOURCE_ATTRIBUTES" $given) }}
  {{- /* a trace says which pod it is of, as an alert does */}}
  {{- $pod := printf "k8s.pod.name=$(SIDEGATE_AGENT__POD),k8s.namespace.name=$(SIDEGATE_AGENT__NAMESPACE),k8s.container.name=%s" $container }}
  - {name: OTEL_RESOURCE_ATTRIBUTES, value: {{ list $pod .Values.telemetry.OTEL_RESOURCE_ATTRIBUTES | compact | join "," | quote }}}
  {{- end }}
  {{- range $name, $value := omit .Values.telemetry "OTEL_RESOURCE_ATTRIBUTES" }}{{ if not (has $name $given) }}
  - {name: {{ $name }}, value: {{ include "sidegate.scalar" $value | quote }}}
  {{- end }}{{ end }}
  {{- with .Values.extraEnv }}{{ toYaml . | nindent 2 }}{{ end }}
securityContext:
  {{- include "sidegate.securityContext" (dict "uid" .Values.security.uid "gid" .Values.security.gid) | nindent 2 }}
{{- end }}
{{- end }}

{{- define "sidegate.sharedMounts" -}}
- {name: sidegate-settings, mountPath: /etc/sidegate/settings, readOnly: true}
{{- if .Values.reviewers.secret }}
- {name: sidegate-reviewers, mountPath: /etc/sidegate/reviewers, readOnly: true}
{{- end }}
{{- if .Values.review.tlsSecret }}
- {name: sidegate-review-tls, mountPath: /etc/sidegate/review-tls, readOnly: true}
{{- end }}
{{- if .Values.store.url }}
- {name: sidegate-store, mountPath: /etc/sidegate/store, readOnly: true}
{{- end }}
- {name: sidegate-state, mountPath: /var/lib/sidegate}
- {name: sidegate-tmp, mountPath: /tmp}
{{- end }}

{{- /* Optional ConfigMaps and Secrets: where one is missing the sidecar says so and ends, instead of a pod stuck before its start. */ -}}
{{- define "sidegate.sharedVolumes" -}}
- name: sidegate-settings
  configMap: {name: {{ include "sidegate.name" . }}, optional: true}
{{- with .Values.reviewers.secret }}
- name: sidegate-reviewers
  secret: {secretName: {{ . }}, optional: true}
{{- end }}
{{- with .Values.review.tlsSecret }}
- name: sidegate-review-tls
  secret: {secretName: {{ . }}, optional: true}
{{- end }}
{{- if .Values.store.url }}
- name: sidegate-store
  secret: {secretName: {{ required "store.secret: name the Secret with the key of the shared store (store.macKey) and its password" .Values.store.secret }}, optional: true}
{{- end }}
- name: sidegate-tmp
  emptyDir: {sizeLimit: 128Mi}
{{- end }}

{{- define "sidegate.volumes" -}}
{{- $name := include "sidegate.name" . -}}
{{ include "sidegate.sharedVolumes" . }}
- name: sidegate-catalog
  configMap: {name: {{ .Values.catalog.configMap | default (printf "%s-catalog" $name) }}, optional: true}
{{- if .Values.policy.source }}
- name: sidegate-policy
  configMap: {name: {{ $name }}-policy, optional: true}
{{- else if .Values.policy.bundle.configMap }}
- name: sidegate-policy
  configMap: {name: {{ .Values.policy.bundle.configMap }}, optional: true}
{{- end }}
{{- range $team, $t := .Values.policy.bundle.teams }}{{ if $t.configMap }}
- name: sidegate-team-{{ $team | replace "_" "-" }}
  configMap: {name: {{ $t.configMap }}, optional: true}
{{- end }}{{ end }}
{{- with .Values.policy.bundle.publicKey }}
- name: sidegate-policy-key
  {{- if .configMap }}
  configMap: {name: {{ .configMap }}, optional: true}
  {{- else }}
  secret: {secretName: {{ required "policy.bundle.publicKey: name a configMap or a secret" .secret }}, optional: true}
  {{- end }}
{{- end }}
{{- with .Values.tokens.secret }}
- name: sidegate-tokens
  secret: {secretName: {{ . }}, optional: true}
{{- end }}
{{- range $credential, $c := .Values.credentials }}
- name: sidegate-credential-{{ $credential }}
  secret: {secretName: {{ required (printf "credentials.%s.secret: name the Secret" $credential) $c.secret }}, optional: true}
{{- end }}
{{- if eq .Values.mode "sidecars" }}
- name: sidegate-run
  emptyDir: {medium: Memory, sizeLimit: 64Mi}
{{- end }}
- name: sidegate-state
  {{- if .Values.state.claim }}
  persistentVolumeClaim: {claimName: {{ .Values.state.claim }}}
  {{- else }}
  emptyDir: {sizeLimit: {{ .Values.state.sizeLimit }}}
  {{- end }}
{{- if .Values.identity.audience }}
- name: sidegate-identity
  projected:
    sources:
      - serviceAccountToken:
          audience: {{ .Values.identity.audience }}
          expirationSeconds: {{ int64 .Values.identity.expirationSeconds }}
          path: token
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}
