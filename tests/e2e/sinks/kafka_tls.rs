//! Kafka over TLS, with and without a login by SCRAM.

use super::consumer::{Target, client};
use super::kafka_rights::{push_one, says, secret};
use crate::harness::authority::Authority;
use crate::harness::services::Kafka;
use crate::harness::{Outcome, SOON, eventually, run};

/// What the gateway says of a broker with which no TLS connection comes about.
const NO_TLS: &str = "no TLS connection to Kafka comes about; check kafka.tls and the files it names";

/// Topics of that name, which the gateway reaches over TLS and the test as anyone.
fn target(kafka: &Kafka, name: &str, authority: &str) -> Target {
    let mut target = Target::new(kafka.bootstrap(), name)
        .with("ARCGATE_KAFKA__LOGS", "off")
        .with("ARCGATE_KAFKA__TLS", "true")
        .with("ARCGATE_KAFKA__TLS_CA_FILE", authority);
    target.client = client(kafka.internal(), None);
    target
}

/// The same, with a certificate and its key in one file.
fn showing(target: Target, own: &str) -> Target {
    target.with("ARCGATE_KAFKA__TLS_CERTIFICATE_FILE", own).with("ARCGATE_KAFKA__TLS_KEY_FILE", own)
}

#[test]
fn events_go_over_tls_with_the_gateways_own_certificate_and_a_login_by_scram() -> Outcome<()> {
    run(300, async {
        let authority = Authority::new()?;
        let kafka = Kafka::start_with_tls(&authority, "gateway=gateway-secret")?;
        let (trusted, own) = (authority.certificate(), authority.sign("gateway")?);
        let password = secret("gateway-secret")?;
        for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
            let target = showing(target(&kafka, mechanism, &trusted.to_string_lossy()), &own.to_string_lossy())
                .with("ARCGATE_KAFKA__SASL_MECHANISM", mechanism)
                .with("ARCGATE_KAFKA__USERNAME", "gateway")
                .with("ARCGATE_KAFKA__PASSWORD_FILE", &password.path().to_string_lossy());
            let rig = target.gateway().await?;
            push_one(&rig, 1).await?;
            assert_eq!(target.events("pipeline", 1).await?.len(), 1);
            assert!(!rig.gateway.stderr().contains("ERROR"), "{}", rig.gateway.stderr());
        }
        // The right certificate alone does not do.
        std::fs::write(password.path(), "another\n")?;
        let stranger = showing(target(&kafka, "stranger", &trusted.to_string_lossy()), &own.to_string_lossy())
            .with("ARCGATE_KAFKA__SASL_MECHANISM", "SCRAM-SHA-512")
            .with("ARCGATE_KAFKA__USERNAME", "gateway")
            .with("ARCGATE_KAFKA__PASSWORD_FILE", &password.path().to_string_lossy());
        says(&stranger.gateway().await?, "Kafka refuses the login; check kafka.username").await?;
        Ok(())
    })
}

#[test]
fn a_broker_that_the_wrong_authority_vouches_for_is_said_once_and_mended_without_a_restart() -> Outcome<()> {
    run(300, async {
        let (authority, another) = (Authority::new()?, Authority::new()?);
        let kafka = Kafka::start_with_tls(&authority, "")?;
        let own = authority.sign("gateway")?;
        let trusted = secret(&std::fs::read_to_string(another.certificate())?)?;
        let target = showing(target(&kafka, "authority", &trusted.path().to_string_lossy()), &own.to_string_lossy());
        let rig = target.gateway().await?;
        push_one(&rig, 1).await?;
        says(&rig, NO_TLS).await?;
        let errors = async || Outcome::Ok(rig.gateway.metrics().await?.with("arcgate_sink_errors_total", "kafka-events"));
        eventually(SOON * 2, "more tries", async || Ok((errors().await? > 2.0).then_some(()))).await?;
        // Who shows no certificate is told the same.
        let stranger = self::target(&kafka, "stranger", &authority.certificate().to_string_lossy());
        says(&stranger.gateway().await?, NO_TLS).await?;

        std::fs::copy(authority.certificate(), trusted.path())?;
        assert_eq!(target.events("pipeline", 1).await?.len(), 1);
        let log = std::fs::read_to_string(rig.gateway.launch().log())?;
        assert_eq!(log.matches("does not take what it is sent").count(), 1, "said once, and not at each try:\n{log}");
        Ok(())
    })
}
