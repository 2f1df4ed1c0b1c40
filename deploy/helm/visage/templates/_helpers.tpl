{{- define "visage.name" -}}
{{- if contains "visage" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-visage" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "visage.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{ include "visage.selector" . }}
{{- end }}

{{- define "visage.selector" -}}
app.kubernetes.io/name: visage
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "visage.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "visage.name" .) }}
{{- end }}

{{/* The settings of all processes that are no secrets. */}}
{{- define "visage.settings" -}}
{{- $own := dict "database" (dict "migrate" false)
  "storage" (dict "kind" "s3" "s3" (dict "bucket" .Values.storage.bucket "region" .Values.storage.region
    "endpoint" .Values.storage.endpoint "path_style" .Values.storage.pathStyle))
  "log" (dict "format" "json")
  "metrics" (dict "listen" "0.0.0.0:9100") -}}
{{- mergeOverwrite $own (deepCopy .Values.settings) | toToml }}
{{- end }}

{{- define "visage.env" -}}
- name: VISAGE_DATABASE__URL
  valueFrom: {secretKeyRef: {name: {{ .Values.database.existingSecret }}, key: {{ .Values.database.key }}}}
{{- with .Values.storage }}
{{- if .existingSecret }}
- name: VISAGE_STORAGE__S3__ACCESS_KEY
  valueFrom: {secretKeyRef: {name: {{ .existingSecret }}, key: {{ .accessKeyKey }}}}
- name: VISAGE_STORAGE__S3__SECRET_KEY
  valueFrom: {secretKeyRef: {name: {{ .existingSecret }}, key: {{ .secretKeyKey }}}}
{{- end }}
{{- end }}
{{- range .Values.secretEnv }}
- name: {{ .name }}
  valueFrom: {secretKeyRef: {name: {{ .secret }}, key: {{ .key }}}}
{{- end }}
{{- end }}

{{- define "visage.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "visage.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* The pods of a Deployment. Arguments: root, pods (their values), component, args, tag, port, grace (more environment). */}}
{{- define "visage.pod" -}}
{{- $root := .root -}}
metadata:
  labels:
    {{- include "visage.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
  annotations:
    # New settings restart the pods.
    checksum/settings: {{ include "visage.settings" $root | sha256sum }}
    {{- with .pods.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "visage.serviceAccount" $root }}
  # visage does not call Kubernetes.
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: {{ add .pods.gracePeriodSeconds 20 }}
  {{- with $root.Values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext: {{- include "visage.podSecurity" $root | nindent 4 }}
  containers:
    - name: visage
      image: {{ printf "%s:%s" $root.Values.image.repository (.tag | default $root.Chart.AppVersion) | quote }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      args: {{ .args | toJson }}
      env:
        {{- include "visage.env" $root | nindent 8 }}
        - {name: TMPDIR, value: /var/lib/visage/data}
        {{- with .env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        {{- if .http }}
        - {name: http, containerPort: 8000}
        {{- end }}
        - {name: metrics, containerPort: 9100}
      # Models are loaded at the start.
      startupProbe:
        httpGet: {path: /healthz, port: metrics}
        periodSeconds: 2
        failureThreshold: 90
      livenessProbe:
        httpGet: {path: /healthz, port: metrics}
        periodSeconds: 15
        timeoutSeconds: 5
        failureThreshold: 4
      readinessProbe:
        httpGet: {path: /readyz, port: metrics}
        periodSeconds: 5
        timeoutSeconds: 4
      securityContext: {{- include "visage.containerSecurity" $root | nindent 8 }}
      resources: {{- toYaml .pods.resources | nindent 8 }}
      volumeMounts:
        - {name: settings, mountPath: /var/lib/visage/config, readOnly: true}
        - {name: data, mountPath: /var/lib/visage/data}
        - {name: tmp, mountPath: /tmp}
  volumes:
    - name: settings
      configMap: {name: {{ include "visage.name" $root }}}
    - name: data
      emptyDir: {sizeLimit: {{ .pods.tmpSize }}}
    - name: tmp
      emptyDir: {medium: Memory, sizeLimit: 64Mi}
  {{- with .pods.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .pods.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .pods.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{/* A Deployment of workers, with what scales it. Arguments: root, name, pods, tag, env. */}}
{{- define "visage.workers" -}}
{{- $root := .root -}}
{{- $name := printf "%s-%s" (include "visage.name" $root) .name -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  labels: {{- include "visage.labels" $root | nindent 4 }}
spec:
  {{- if not .pods.autoscaling.enabled }}
  replicas: {{ .pods.replicas }}
  {{- end }}
  strategy:
    # A worker that ends hands back what it does not finish, so all may be replaced at once.
    rollingUpdate: {maxUnavailable: "50%", maxSurge: "25%"}
  selector:
    matchLabels:
      {{- include "visage.selector" $root | nindent 6 }}
      app.kubernetes.io/component: {{ .name }}
  template:
    {{- $grace := dict "name" "VISAGE_QUEUE__SHUTDOWN_GRACE_S" "value" (toString .pods.gracePeriodSeconds) }}
    {{- include "visage.pod" (dict "root" $root "pods" .pods "component" .name "args" (list "work") "tag" .tag "http" false
      "env" (append .env $grace)) | nindent 4 }}
{{- if .pods.autoscaling.enabled }}
---
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: {{ $name }}
  labels: {{- include "visage.labels" $root | nindent 4 }}
spec:
  scaleTargetRef: {name: {{ $name }}}
  minReplicaCount: {{ .pods.autoscaling.minReplicas }}
  maxReplicaCount: {{ .pods.autoscaling.maxReplicas }}
  pollingInterval: {{ .pods.autoscaling.pollingIntervalSeconds }}
  cooldownPeriod: {{ .pods.autoscaling.cooldownSeconds }}
  triggers:
    - type: postgresql
      metadata:
        # Running videos count, so that a worker is not stopped while it works. Videos that are tried again later do not.
        # Pieces of long videos count, because each can have a worker of its own.
        query: >-
          SELECT (SELECT COUNT(*) FROM jobs WHERE status = 'running'
          OR (status = 'queued' AND run_at <= extract(epoch FROM now()) * 1000))
          + (SELECT COUNT(*) FROM analysis_pieces WHERE status <> 'done' AND shared = 1)
        targetQueryValue: {{ .pods.autoscaling.videosPerWorker | quote }}
        activationTargetQueryValue: "0"
      authenticationRef: {name: {{ include "visage.name" $root }}}
{{- end }}
{{- end }}
