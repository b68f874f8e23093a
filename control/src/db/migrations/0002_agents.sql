ALTER TABLE t_agent ADD COLUMN running_step_runs BIGINT NOT NULL DEFAULT 0;
ALTER TABLE t_agent ADD COLUMN allowed_step_runs BIGINT;
ALTER TABLE t_agent ADD COLUMN patience BIGINT NOT NULL DEFAULT 180000;
CREATE INDEX i_agent_status ON t_agent (status);
CREATE INDEX i_job_run_agent ON t_job_run (agent_id, status);
