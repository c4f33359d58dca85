{{- /* The desk's pod: what its Deployment runs, and what the guard compares pods with its labels with. */ -}}
{{- define "sidegate.deskSpec" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- range . }}
  - name: {{ . }}{{ end }}
{{- end }}
containers:
  - name: desk
    {{- include "sidegate.process" (list . "desk") | nindent 4 }}
    resources: {{- toYaml .Values.desk.resources | nindent 6 }}
    volumeMounts:
      {{- include "sidegate.sharedMounts" . | nindent 6 }}
    args: [serve, --desk, --settings, /etc/sidegate/settings/sidegate.yaml]
    ports:
      - {name: review, containerPort: {{ .Values.ports.review }}}
      - {name: probe, containerPort: {{ .Values.ports.probe }}}
    readinessProbe: {httpGet: {path: /healthz/ready, port: {{ .Values.ports.probe }}}, periodSeconds: 5, failureThreshold: 2}
    livenessProbe: {httpGet: {path: /healthz/live, port: {{ .Values.ports.probe }}}, periodSeconds: 10, timeoutSeconds: 5}
volumes:
  {{- include "sidegate.sharedVolumes" . | nindent 2 }}
  - {name: sidegate-state, emptyDir: {sizeLimit: {{ .Values.state.sizeLimit }}}}
{{- end }}
