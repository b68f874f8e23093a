//! The environment of a step's programs: the step's own, its secrets, and of the agent's only what programs cannot do without. What
//! else the agent was given, a registration token for one, is none of a step's business.

use std::collections::BTreeMap;
use std::ffi::OsString;

use arcgate_api::agent::v1::StepRun;
use arcgate_control::template;

use super::args::secret_of;

/// What is passed on of the agent's own.
const PASSED_ON: [&str; 12] =
    ["HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "SHELL", "SSL_CERT_DIR", "SSL_CERT_FILE", "TEMP", "TMPDIR", "TZ", "USER"];
/// Where programs are, if the agent itself was not told.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The environment; what comes later in this order counts: the agent's, the step run's names, the step's, its secrets.
///
/// # Errors
/// In words for people: a value would become too long.
pub(super) fn of(step: &StepRun, own: impl Iterator<Item = (OsString, OsString)>) -> Result<Vec<(String, String)>, String> {
    let mut env = BTreeMap::from([("PATH".to_owned(), PATH.to_owned())]);
    let own = own.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    env.extend(own.filter(|(name, _)| PASSED_ON.contains(&&**name)));
    for (name, value) in [
        ("CI", "true"),
        ("ARCGATE_PIPELINE_ID", &*step.pipeline_id),
        ("ARCGATE_PIPELINE_RUN_ID", &*step.pipeline_run_id),
        ("ARCGATE_JOB_NAME", &*step.job_name),
        ("ARCGATE_STEP_NAME", &*step.step_name),
        ("ARCGATE_STEP_RUN_ID", &*step.step_run_id),
    ] {
        env.insert(name.to_owned(), value.to_owned());
    }
    let secret = |name: &str| secret_of(step, name);
    for (name, value) in &step.env {
        let value = template::fill(value, &secret).map_err(|error| format!("the variable {name}: {error}"))?;
        env.insert(name.clone(), value.into_owned());
    }
    env.extend(step.secrets.clone());
    // Names that no environment can hold.
    env.retain(|name, value| !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0'));
    Ok(env.into_iter().collect())
}
