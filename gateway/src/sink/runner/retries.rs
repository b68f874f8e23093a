//! Dead letters that an operator wants sent again.

use std::sync::Arc;

use super::{Broken, Ready, Runner, What};
use crate::sink::batch::Batch;
use crate::sink::deadletters::{DeadLetter, LetterError, LetterId};
use crate::sink::delivery::{Delivery, DeliveryError, Rejected};
use crate::sink::feed::Feed;

/// Letters that are sent again at a time.
const AT_A_TIME: usize = 16;

impl<F: Feed, D: Delivery<Batch = Batch<F>>> Runner<F, D> {
    /// Looks for letters that are to be sent again, and sends some.
    pub(super) async fn look_for_retries(&mut self) -> Result<(), Broken> {
        let room = match (self.ready, self.trouble.is_on()) {
            (Ready::Yes, false) => AT_A_TIME.saturating_sub(self.retrying.len()),
            _ => 0,
        };
        let under_way = self.retrying.clone();
        let found = self.at_desk(move |desk| {
            let listed = desk.letters.list()?;
            let wanted = listed.iter().filter(|letter| letter.retry && !under_way.contains(&letter.id)).take(room);
            let letters: Vec<_> = wanted.map(|letter| (letter.id, desk.letters.read(letter.id))).collect();
            desk.letters.retain(&listed);
            Ok::<_, LetterError>((listed.len(), letters))
        });
        match found.await? {
            Ok((kept, letters)) => {
                metrics::gauge!("arcgate_sink_deadletters", "sink" => self.name).set(kept as f64);
                for (id, letter) in letters {
                    self.retry(id, letter).await?;
                }
            }
            Err(error) => tracing::warn!(sink = self.name, %error, "the sink's dead letters cannot be looked at; trying again"),
        }
        Ok(())
    }

    async fn retry(&mut self, id: LetterId, letter: Result<DeadLetter, LetterError>) -> Result<(), Broken> {
        match letter {
            Ok(letter) if !letter.cut => {
                self.retrying.insert(id);
                let (delivery, sent) = (Arc::clone(&self.delivery), letter.clone());
                let work = async move { delivery.redeliver(&sent).await.map(|()| Vec::new()) };
                self.spawn(What::Letter(Box::new(letter)), work);
                Ok(())
            }
            Ok(_) => self.end_retry(id, "it was too large to be kept whole").await,
            Err(LetterError::Missing(_)) => Ok(()),
            Err(error) => self.end_retry(id, &error.to_string()).await,
        }
    }

    async fn end_retry(&mut self, id: LetterId, why: &str) -> Result<(), Broken> {
        tracing::warn!(sink = self.name, letter = %id, why, "a dead letter cannot be sent again");
        if let Err(error) = self.at_desk(move |desk| desk.letters.end_retry(id)).await? {
            tracing::warn!(sink = self.name, letter = %id, %error, "a dead letter could not be put back");
        }
        Ok(())
    }

    /// Takes note of what became of a letter that was sent again.
    pub(super) async fn redelivered(
        &mut self,
        mut letter: DeadLetter,
        outcome: Result<Vec<Rejected>, DeliveryError>,
    ) -> Result<(), Broken> {
        let id = letter.id();
        self.retrying.remove(&id);
        let kept = match outcome {
            Ok(_) => {
                tracing::info!(sink = self.name, letter = %id, "a dead letter was sent again and taken");
                self.at_desk(move |desk| desk.letters.remove(id).map(drop)).await?
            }
            Err(DeliveryError::Permanent { why }) => {
                tracing::warn!(sink = self.name, letter = %id, why, "a dead letter was sent again and refused again");
                letter.reason = why;
                letter.attempts += 1;
                letter.at_ms = self.clock.now();
                self.at_desk(move |desk| desk.letters.replace(&letter)).await?
            }
            // It still bears the name that asks for it: the next look finds it again.
            Err(error) => {
                tracing::warn!(sink = self.name, letter = %id, %error, "a dead letter could not be sent; trying again");
                if matches!(error, DeliveryError::NotReady { .. }) && self.ready == Ready::Yes {
                    // There may be no batch that would find that out.
                    self.ready = Ready::No;
                }
                Ok(())
            }
        };
        if let Err(error) = kept {
            tracing::warn!(sink = self.name, letter = %id, %error, "what became of a dead letter could not be kept; it may be sent twice");
        }
        Ok(())
    }
}
