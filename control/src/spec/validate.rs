//! What a definition must keep to, beyond its syntax.
//!
//! | what | rule |
//! |---|---|
//! | `namespace` | required; letters, digits, `_`, `-`; at most 128 |
//! | `version` | `1.2.3` or `1.2.3-rc1` |
//! | `jobs` | 1 to [`MAX_JOBS`], with [`MAX_STEPS`] steps at most; names as for `namespace`, each once |
//! | `job.steps` | at least one; names as for `namespace`, each once in the job |
//! | `dependsOn` | names of other jobs; no circles |
//! | `when` | compiles: see [`crate::when`] |
//! | `timeout` | a duration above zero: see [`crate::duration`] |
//! | `retry` | `max_attempts` from 1 to [`MAX_ATTEMPTS`]; `delay` a duration |
//! | `step.uses`, `approval.plugin`, `notify.*.plugin` | a plugin's name, or `name@1.2.3`; required for a step and to notify |
//! | `agent_selector` | see [`crate::labels`] |
//! | `triggers` | see [`crate::trigger`]; at most 100 |
//! | `source.repo` | required |

mod job;
mod names;

use std::collections::{HashMap, HashSet};

use arcgate_api::pipeline::v1 as pb;

use super::Spec;
use super::problem::{Path, Place, Problem, Problems};
use crate::graph;
use crate::text::{hint, quoted};
use crate::trigger::Trigger;

/// The most jobs of a pipeline.
pub const MAX_JOBS: usize = 1_000;
/// The most steps of all jobs of a pipeline together.
pub const MAX_STEPS: usize = 10_000;
/// The most attempts of a step.
pub const MAX_ATTEMPTS: i32 = 100;
/// The most triggers of a pipeline.
const MAX_TRIGGERS: usize = 100;

/// What is wrong with a definition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// What must be corrected.
    pub problems: Vec<Problem>,
    /// What is allowed, but hardly meant.
    pub warnings: Vec<Problem>,
}

/// Checks a definition that did not come as text.
#[must_use]
pub fn validate(spec: &Spec) -> Report {
    with_places(spec, &|_| None)
}

pub(super) fn with_places(spec: &Spec, place_of: &dyn Fn(&Path) -> Option<Place>) -> Report {
    let variables = spec.variables.keys().cloned().collect();
    let mut checker = Checker { place_of, problems: Problems::default(), warnings: Problems::default(), variables };
    checker.spec(spec);
    Report { problems: checker.problems.finish(), warnings: checker.warnings.finish() }
}

struct Checker<'d> {
    place_of: &'d dyn Fn(&Path) -> Option<Place>,
    problems: Problems,
    warnings: Problems,
    variables: HashSet<String>,
}

/// What a problem is about: its path, and how messages begin (`job[1] 'test': `).
struct About {
    path: Path,
    prefix: String,
}

impl About {
    fn key(&self, key: &str) -> Self {
        Self { path: self.path.key(key), prefix: self.prefix.clone() }
    }

    fn element(&self, list: &str, index: usize) -> Self {
        Self { path: self.path.element(list, index), prefix: self.prefix.clone() }
    }

    /// The element of a list of jobs or steps, called `what`.
    fn named(&self, list: &str, what: &str, index: usize, name: &str) -> Self {
        let name = if name.is_empty() { String::new() } else { format!(" {}", quoted(name)) };
        Self { path: self.path.element(list, index), prefix: format!("{}{what}[{index}]{name}: ", self.prefix) }
    }
}

impl Checker<'_> {
    fn wrong(&mut self, about: &About, message: impl AsRef<str>) {
        let message = format!("{}{}", about.prefix, message.as_ref());
        self.problems.add(about.path.clone(), (self.place_of)(&about.path), message);
    }

    fn warn(&mut self, about: &About, message: impl AsRef<str>) {
        let message = format!("{}{}", about.prefix, message.as_ref());
        self.warnings.add(about.path.clone(), (self.place_of)(&about.path), message);
    }

    fn spec(&mut self, spec: &Spec) {
        let about = About { path: Path::default(), prefix: String::new() };
        self.name(&about.key("namespace"), "namespace", &spec.namespace);
        if !spec.version.is_empty() && !names::is_version(&spec.version) {
            self.wrong(
                &about.key("version"),
                format!("version {} is invalid; write it as 1.2.3 or 1.2.3-rc1", quoted(&spec.version)),
            );
        }
        self.finite(&about.key("meta"), spec.meta.as_ref());
        self.finite(&about.key("runtime").key("config"), spec.runtime.as_ref().and_then(|runtime| runtime.config.as_ref()));
        let steps: usize = spec.jobs.iter().map(|job| job.steps.len()).sum();
        if spec.jobs.is_empty() {
            self.wrong(&about.key("jobs"), "pipeline must have at least one job");
        }
        if spec.jobs.len() > MAX_JOBS || steps > MAX_STEPS {
            let message = format!(
                "the pipeline has {} jobs with {steps} steps; at most {MAX_JOBS} with {MAX_STEPS} are allowed",
                spec.jobs.len()
            );
            self.wrong(&about.key("jobs"), message);
            return;
        }
        self.unique(&about, "jobs", "job", spec.jobs.iter().map(|job| job.name.as_str()));
        for (index, job) in spec.jobs.iter().enumerate() {
            self.job(&about.named("jobs", "job", index, &job.name), job);
        }
        self.dependencies(&about, &spec.jobs);
        self.triggers(&about, &spec.triggers);
    }

    /// A required name.
    fn name(&mut self, about: &About, field: &str, name: &str) {
        if name.is_empty() {
            self.wrong(about, format!("{field} is required"));
        } else if !names::is_name(name) {
            let message =
                format!("{field} {} is invalid; use letters, digits, '_' and '-', at most {}", quoted(name), names::MAX_CHARS);
            self.wrong(about, message);
        }
    }

    fn unique<'n>(&mut self, about: &About, list: &str, what: &str, names: impl Iterator<Item = &'n str>) {
        let mut seen: HashMap<&str, usize> = HashMap::new();
        for (index, name) in names.enumerate().filter(|(_, name)| !name.is_empty()) {
            if let Some(first) = seen.get(name) {
                let message = format!("duplicate {what} name {} at index {first} and {index}", quoted(name));
                self.wrong(&about.element(list, index).key("name"), message);
            } else {
                seen.insert(name, index);
            }
        }
    }

    /// A plugin's name, with or without a version.
    fn plugin(&mut self, about: &About, field: &str, uses: &str) {
        if uses.is_empty() {
            self.wrong(about, format!("{field} is required"));
        } else if !names::is_plugin(uses) {
            let message = format!("{field} {} is invalid; write a plugin's name, or name@1.2.3", quoted(uses));
            self.wrong(about, message);
        }
    }

    /// Arbitrary JSON has no infinity; only a protobuf message can.
    fn finite(&mut self, about: &About, object: Option<&prost_types::Struct>) {
        if object.is_some_and(|object| !object.fields.values().all(names::is_json)) {
            self.wrong(about, "a value in here is no JSON: a number that is not finite, or a value of no kind");
        }
    }

    fn dependencies(&mut self, about: &About, jobs: &[pb::Job]) {
        let mut index_of: HashMap<&str, usize> = HashMap::new();
        for (index, job) in jobs.iter().enumerate() {
            index_of.entry(&job.name).or_insert(index);
        }
        let mut before: Vec<Vec<usize>> = vec![Vec::new(); jobs.len()];
        for (index, job) in jobs.iter().enumerate() {
            let job_about = about.named("jobs", "job", index, &job.name);
            for (at, name) in job.depends_on.iter().enumerate() {
                let here = job_about.element("dependsOn", at);
                match index_of.get(name.as_str()) {
                    Some(other) if before[index].contains(other) => {
                        self.warn(&here, format!("dependsOn names {} twice", quoted(name)));
                    }
                    Some(other) => before[index].push(*other),
                    None if self.problems.is_full() => self.wrong(&here, "unknown job"),
                    None => {
                        let others =
                            jobs.iter().map(|job| job.name.as_str()).filter(|other| *other != job.name && !other.is_empty());
                        self.wrong(&here, format!("dependsOn names the unknown job {}{}", quoted(name), hint(name, others)));
                    }
                }
            }
        }
        for circle in graph::order(&before).err().unwrap_or_default() {
            let first = circle[0];
            let names: Vec<_> = circle.iter().chain([&first]).map(|job| jobs[*job].name.as_str()).collect();
            let here = about.named("jobs", "job", first, &jobs[first].name).key("dependsOn");
            let way = if names.len() > 21 {
                format!("{} → … ({} jobs)", names[..20].join(" → "), circle.len())
            } else {
                names.join(" → ")
            };
            self.wrong(&here, format!("jobs depend on one another in a circle: {way}"));
        }
    }

    fn triggers(&mut self, about: &About, triggers: &[pb::Trigger]) {
        if triggers.len() > MAX_TRIGGERS {
            self.wrong(
                &about.key("triggers"),
                format!("the pipeline has {} triggers; at most {MAX_TRIGGERS} are allowed", triggers.len()),
            );
            return;
        }
        for (index, trigger) in triggers.iter().enumerate() {
            let here = about.element("triggers", index);
            for (option, message) in Trigger::new(trigger).err().unwrap_or_default() {
                let at = if option == "type" { here.key("type") } else { here.key("options").key(&option) };
                self.wrong(&at, format!("trigger[{index}]: {message}"));
            }
        }
    }
}
