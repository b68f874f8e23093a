CREATE TABLE t_pipeline (
  pipeline_id TEXT PRIMARY KEY,
  project_id TEXT NOT NULL,
  name TEXT NOT NULL,
  description TEXT NOT NULL,
  repo_url TEXT NOT NULL,
  default_branch TEXT NOT NULL,
  pipeline_file_path TEXT NOT NULL,
  status BIGINT NOT NULL,
  save_mode BIGINT NOT NULL,
  pr_target_branch TEXT NOT NULL,
  metadata TEXT NOT NULL,
  last_sync_status BIGINT NOT NULL,
  last_sync_message TEXT NOT NULL,
  last_synced_at BIGINT,
  last_editor TEXT NOT NULL,
  last_commit_sha TEXT NOT NULL,
  last_save_request_id TEXT NOT NULL,
  total_runs BIGINT NOT NULL,
  success_runs BIGINT NOT NULL,
  failed_runs BIGINT NOT NULL,
  created_by TEXT NOT NULL,
  is_enabled BIGINT NOT NULL,
  is_deleted BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL
);
CREATE INDEX i_pipeline_list ON t_pipeline (is_deleted, created_at, pipeline_id);
CREATE INDEX i_pipeline_project ON t_pipeline (project_id);

CREATE TABLE t_definition (
  definition_id TEXT PRIMARY KEY,
  spec TEXT NOT NULL
);

CREATE TABLE t_pipeline_revision (
  revision_id TEXT PRIMARY KEY,
  pipeline_id TEXT NOT NULL,
  number BIGINT NOT NULL,
  definition_id TEXT NOT NULL,
  format BIGINT NOT NULL,
  editor TEXT NOT NULL,
  message TEXT NOT NULL,
  request_id TEXT,
  created_at BIGINT NOT NULL,
  UNIQUE (pipeline_id, number),
  UNIQUE (pipeline_id, request_id)
);

CREATE TABLE t_pipeline_run (
  run_id TEXT PRIMARY KEY,
  pipeline_id TEXT NOT NULL,
  request_id TEXT,
  pipeline_name TEXT NOT NULL,
  project_id TEXT NOT NULL,
  branch TEXT NOT NULL,
  commit_sha TEXT NOT NULL,
  definition_id TEXT NOT NULL,
  definition_commit_sha TEXT NOT NULL,
  definition_path TEXT NOT NULL,
  status BIGINT NOT NULL,
  trigger_type BIGINT NOT NULL,
  triggered_by TEXT NOT NULL,
  event TEXT NOT NULL,
  env TEXT NOT NULL,
  total_jobs BIGINT NOT NULL,
  completed_jobs BIGINT NOT NULL,
  failed_jobs BIGINT NOT NULL,
  running_jobs BIGINT NOT NULL,
  current_stage BIGINT NOT NULL DEFAULT 0,
  total_stages BIGINT NOT NULL DEFAULT 0,
  start_time BIGINT,
  end_time BIGINT,
  duration BIGINT NOT NULL,
  state TEXT NOT NULL,
  due_at BIGINT,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  UNIQUE (pipeline_id, request_id)
);
CREATE INDEX i_pipeline_run_list ON t_pipeline_run (created_at, run_id);
CREATE INDEX i_pipeline_run_of ON t_pipeline_run (pipeline_id, created_at);
CREATE INDEX i_pipeline_run_due ON t_pipeline_run (due_at);

CREATE TABLE t_job_run (
  job_run_id TEXT PRIMARY KEY,
  pipeline_id TEXT NOT NULL,
  pipeline_run_id TEXT NOT NULL,
  job_index BIGINT NOT NULL,
  stage_id TEXT NOT NULL DEFAULT '',
  job_name TEXT NOT NULL,
  agent_id TEXT NOT NULL DEFAULT '',
  status BIGINT NOT NULL,
  priority BIGINT NOT NULL,
  env TEXT NOT NULL DEFAULT '{}',
  workspace TEXT NOT NULL DEFAULT '',
  timeout TEXT NOT NULL,
  total_steps BIGINT NOT NULL,
  completed_steps BIGINT NOT NULL,
  failed_steps BIGINT NOT NULL,
  error_message TEXT NOT NULL,
  artifact_uris TEXT NOT NULL DEFAULT '[]',
  start_time BIGINT,
  end_time BIGINT,
  duration BIGINT NOT NULL,
  state TEXT NOT NULL,
  lock_key TEXT,
  lock_order BIGINT NOT NULL,
  lock_held BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  UNIQUE (pipeline_run_id, job_index)
);
CREATE INDEX i_job_run_lock ON t_job_run (lock_key);

CREATE TABLE t_step_run (
  step_run_id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  pipeline_id TEXT NOT NULL,
  pipeline_run_id TEXT NOT NULL,
  stage_id TEXT NOT NULL DEFAULT '',
  job_id TEXT NOT NULL,
  job_run_id TEXT NOT NULL,
  job_index BIGINT NOT NULL,
  job_name TEXT NOT NULL,
  step_index BIGINT NOT NULL,
  attempt BIGINT NOT NULL,
  is_current BIGINT NOT NULL,
  agent_id TEXT NOT NULL,
  lease_until BIGINT,
  status BIGINT NOT NULL,
  priority BIGINT NOT NULL,
  uses TEXT NOT NULL,
  action TEXT NOT NULL,
  args TEXT,
  workspace TEXT NOT NULL DEFAULT '',
  env TEXT,
  secrets TEXT,
  timeout TEXT NOT NULL,
  retry_count BIGINT NOT NULL,
  current_retry BIGINT NOT NULL,
  allow_failure BIGINT NOT NULL,
  continue_on_error BIGINT NOT NULL,
  "when" TEXT NOT NULL,
  label_selector TEXT NOT NULL,
  depends_on TEXT NOT NULL DEFAULT '',
  exit_code BIGINT,
  error_message TEXT NOT NULL,
  metrics TEXT NOT NULL DEFAULT '{}',
  queued_at BIGINT,
  start_time BIGINT,
  end_time BIGINT,
  duration BIGINT NOT NULL,
  created_by TEXT NOT NULL,
  state TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  UNIQUE (pipeline_run_id, job_index, step_index, attempt)
);
CREATE INDEX i_step_run_status ON t_step_run (status, queued_at);
CREATE INDEX i_step_run_agent ON t_step_run (agent_id, status);
CREATE INDEX i_step_run_list ON t_step_run (created_at, step_run_id);

CREATE TABLE t_step_run_artifact (
  artifact_id TEXT PRIMARY KEY,
  step_run_id TEXT NOT NULL,
  job_run_id TEXT NOT NULL,
  pipeline_run_id TEXT NOT NULL,
  name TEXT NOT NULL,
  path TEXT NOT NULL,
  destination TEXT NOT NULL,
  size BIGINT NOT NULL,
  storage_type TEXT NOT NULL,
  storage_path TEXT NOT NULL,
  expire BIGINT NOT NULL,
  expire_days BIGINT,
  expired_at BIGINT,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL
);
CREATE INDEX i_step_run_artifact_of ON t_step_run_artifact (step_run_id);

CREATE TABLE t_agent (
  agent_id TEXT PRIMARY KEY,
  agent_name TEXT NOT NULL,
  address TEXT NOT NULL,
  port TEXT NOT NULL,
  os TEXT NOT NULL,
  arch TEXT NOT NULL,
  version TEXT NOT NULL,
  status BIGINT NOT NULL,
  labels TEXT NOT NULL,
  metrics TEXT NOT NULL,
  last_heartbeat BIGINT,
  is_enabled BIGINT NOT NULL,
  registered_by TEXT NOT NULL,
  token_hash TEXT,
  max_step_runs BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX i_agent_token ON t_agent (token_hash);

CREATE TABLE t_registration_token (
  token_hash TEXT PRIMARY KEY,
  description TEXT NOT NULL,
  created_by TEXT NOT NULL,
  expires_at BIGINT,
  max_uses BIGINT NOT NULL,
  use_count BIGINT NOT NULL,
  is_active BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL
);

CREATE TABLE t_api_token (
  token_hash TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  role TEXT NOT NULL,
  created_by TEXT NOT NULL,
  expires_at BIGINT,
  is_active BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL
);

CREATE TABLE t_approval_request (
  approval_id TEXT PRIMARY KEY,
  pipeline_run_id TEXT NOT NULL,
  job_index BIGINT NOT NULL,
  job_name TEXT NOT NULL,
  step_name TEXT NOT NULL DEFAULT '',
  plugin TEXT NOT NULL,
  status BIGINT NOT NULL,
  requested_by TEXT NOT NULL,
  approved_by TEXT NOT NULL,
  reason TEXT NOT NULL,
  callback_url TEXT NOT NULL DEFAULT '',
  notify_channels TEXT NOT NULL DEFAULT '[]',
  expires_at BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL
);
CREATE INDEX i_approval_request_of ON t_approval_request (pipeline_run_id, job_index);

CREATE TABLE t_notification (
  notification_id TEXT PRIMARY KEY,
  pipeline_run_id TEXT NOT NULL,
  job_index BIGINT NOT NULL,
  succeeded BIGINT NOT NULL,
  tries BIGINT NOT NULL,
  next_at BIGINT NOT NULL,
  created_at BIGINT NOT NULL
);

CREATE TABLE t_outbox (
  seq BIGINT PRIMARY KEY,
  event_id TEXT NOT NULL,
  event_type TEXT NOT NULL,
  payload TEXT NOT NULL,
  created_at BIGINT NOT NULL
);

CREATE TABLE t_cursor (
  name TEXT PRIMARY KEY,
  position TEXT NOT NULL
);

CREATE TABLE t_counter (
  name TEXT PRIMARY KEY,
  value BIGINT NOT NULL
);

CREATE TABLE t_cron_mark (
  pipeline_id TEXT NOT NULL,
  schedule TEXT NOT NULL,
  since BIGINT NOT NULL,
  PRIMARY KEY (pipeline_id, schedule)
);
