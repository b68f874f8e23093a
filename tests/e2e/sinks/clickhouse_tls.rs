//! ClickHouse over TLS.

use super::kafka_rights::{says, secret};
use crate::clickhouse::{has_exactly, push, rig};
use crate::harness::authority::Authority;
use crate::harness::services::ClickHouse;
use crate::harness::{Outcome, run};

#[test]
fn a_server_that_the_wrong_authority_vouches_for_is_not_trusted_until_the_file_names_the_right_one() -> Outcome<()> {
    run(240, async {
        let (authority, another) = (Authority::new()?, Authority::new()?);
        let clickhouse = ClickHouse::start_with_tls(&authority)?;
        let trusted = secret(&std::fs::read_to_string(another.certificate())?)?;
        let file = trusted.path().to_string_lossy().into_owned();
        let rig = rig(clickhouse.tls_url(), "over_tls", &[("ARCGATE_CLICKHOUSE__TLS_CA_FILE", &file)]).await?;
        push(&rig, "step", "pipeline", 1, 100).await?;
        says(&rig, "invalid peer certificate").await?;
        says(&rig, "check clickhouse.url and clickhouse.tls_ca_file").await?;

        std::fs::copy(authority.certificate(), trusted.path())?;
        has_exactly(&clickhouse, "over_tls", 100).await
    })
}
