//! One job and its steps.

use arcgate_api::pipeline::v1 as pb;

use super::{About, Checker, MAX_ATTEMPTS};
use crate::duration;
use crate::labels::Selector;
use crate::text::quoted;
use crate::when::{Scope, When};

impl Checker<'_> {
    pub(super) fn job(&mut self, about: &About, job: &pb::Job) {
        self.name(&about.key("name"), "name", &job.name);
        if job.steps.is_empty() {
            self.wrong(&about.key("steps"), "job must have at least one step");
        }
        self.unique(about, "steps", "step", job.steps.iter().map(|step| step.name.as_str()));
        let timeout = self.timeout(about, &job.timeout);
        self.retry(&about.key("retry"), job.retry.as_ref());
        self.when(&about.key("when"), "job", &job.when, false, !job.depends_on.is_empty());
        if let Some(source) = &job.source {
            self.source(&about.key("source"), source);
        }
        if let Some(approval) = &job.approval {
            self.approval(&about.key("approval"), approval);
        }
        self.finite(&about.key("target").key("config"), job.target.as_ref().and_then(|target| target.config.as_ref()));
        for (when, item) in
            job.notify.iter().flat_map(|notify| [("on_success", &notify.on_success), ("on_failure", &notify.on_failure)])
        {
            let Some(item) = item else { continue };
            let here = about.key("notify").key(when);
            self.plugin(&here.key("plugin"), &format!("notify.{when}.plugin"), &item.plugin);
            self.finite(&here.key("params"), item.params.as_ref());
        }
        if !job.triggers.is_empty() {
            self.warn(&about.key("triggers"), "triggers of a job do nothing; write them at the pipeline");
        }
        for (index, step) in job.steps.iter().enumerate() {
            let here = about.named("steps", "step", index, &step.name);
            self.step(&here, step, index > 0);
            let longer = duration::parse(&step.timeout).ok().zip(timeout).is_some_and(|(step, job)| step > job);
            if longer {
                self.warn(
                    &here.key("timeout"),
                    format!("timeout {} is longer than its job's, which ends it first", quoted(&step.timeout)),
                );
            }
        }
    }

    fn step(&mut self, about: &About, step: &pb::Step, may_fail: bool) {
        self.name(&about.key("name"), "name", &step.name);
        self.plugin(&about.key("uses"), "uses", &step.uses);
        self.timeout(about, &step.timeout);
        self.when(&about.key("when"), "step", &step.when, true, may_fail);
        self.finite(&about.key("args"), step.args.as_ref());
        let Some(selector) = &step.agent_selector else { return };
        let here = about.key("agent_selector");
        for (expression, message) in Selector::new(selector).err().unwrap_or_default() {
            let at = expression.map_or_else(|| about.key("agent_selector"), |index| here.element("match_expressions", index));
            self.wrong(&at, message);
        }
    }

    /// A duration above zero, if there is one.
    fn timeout(&mut self, about: &About, text: &str) -> Option<std::time::Duration> {
        if text.is_empty() {
            return None;
        }
        match duration::parse(text) {
            Ok(timeout) if timeout.is_zero() => {
                self.wrong(&about.key("timeout"), format!("timeout {} is zero; leave it out for no limit", quoted(text)));
                None
            }
            Ok(timeout) => Some(timeout),
            Err(error) => {
                self.wrong(&about.key("timeout"), format!("timeout {error}"));
                None
            }
        }
    }

    fn retry(&mut self, about: &About, retry: Option<&pb::Retry>) {
        let Some(retry) = retry else { return };
        if retry.max_attempts <= 0 {
            self.wrong(&about.key("max_attempts"), "retry.max_attempts must be greater than 0");
        } else if retry.max_attempts > MAX_ATTEMPTS {
            self.wrong(
                &about.key("max_attempts"),
                format!("retry.max_attempts is {}; at most {MAX_ATTEMPTS} are allowed", retry.max_attempts),
            );
        }
        if retry.delay.is_empty() {
            return;
        }
        if let Err(error) = duration::parse(&retry.delay) {
            self.wrong(&about.key("delay"), format!("retry.delay {error}"));
        } else if retry.max_attempts == 1 {
            self.warn(&about.key("delay"), "retry.delay does nothing: max_attempts 1 is the first attempt alone");
        }
    }

    fn when(&mut self, about: &About, what: &str, text: &str, step: bool, may_fail: bool) {
        if self.problems.is_full() {
            return;
        }
        let compiled = When::compile(text, &Scope { variables: &self.variables, step });
        match compiled {
            Err(error) => self.wrong(about, format!("when: {error}")),
            Ok(when) if when.never_holds(may_fail) => self.warn(about, format!("the {what} can never run: its when never holds")),
            Ok(_) => {}
        }
    }

    fn source(&mut self, about: &About, source: &pb::Source) {
        if source.repo.is_empty() {
            self.wrong(&about.key("repo"), "source.repo is required");
        }
        if !matches!(source.r#type.as_str(), "" | "git") {
            self.warn(&about.key("type"), format!("source.type {} is unknown; it is fetched with git", quoted(&source.r#type)));
        }
    }

    fn approval(&mut self, about: &About, approval: &pb::Approval) {
        if !approval.plugin.is_empty() {
            self.plugin(&about.key("plugin"), "approval.plugin", &approval.plugin);
        }
        self.finite(&about.key("params"), approval.params.as_ref());
        if !approval.required {
            self.warn(about, "approval does nothing unless required is true");
        }
    }
}
