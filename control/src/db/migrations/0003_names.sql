-- Step runs by the names that existing clients and agents have for them.
CREATE INDEX i_step_run_name ON t_step_run (job_id, name, created_at);
CREATE INDEX i_step_run_agent_name ON t_step_run (agent_id, name, created_at);
