-- The commit of a definition that was read from, or written to, a git repository; empty for those that are kept here alone.
ALTER TABLE t_pipeline_revision ADD COLUMN commit_sha TEXT NOT NULL DEFAULT '';
CREATE INDEX i_pipeline_repository ON t_pipeline (repo_url, is_enabled);
