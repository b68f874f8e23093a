//! The parts of an event that others than its decoder want, as slices of its bytes.

use prost_types::Timestamp;

use super::payload::PayloadError;
use super::wire::Fields;

/// A `gateway.v1.Event` as far as it matters to lines and sinks. Its id, agent and seq stand beside the stored bytes.
#[derive(Debug, Clone, Default)]
pub(crate) struct EventParts<'a> {
    /// Where it comes from.
    pub(crate) meta: MetaParts<'a>,
    /// Its type.
    pub(crate) event_type: &'a str,
    /// The encoded `google.protobuf.Struct`.
    pub(crate) payload: &'a [u8],
}

/// A `gateway.v1.Meta` as far as it matters there.
#[derive(Debug, Clone, Default)]
pub(crate) struct MetaParts<'a> {
    /// The pipeline; empty if not set.
    pub(crate) pipeline_id: &'a str,
    /// The step run; empty if not set.
    pub(crate) step_id: &'a str,
    /// When the event was made.
    pub(crate) timestamp: Option<Timestamp>,
}

impl<'a> EventParts<'a> {
    /// The parts of an encoded event.
    ///
    /// # Errors
    /// The bytes are no event.
    pub(crate) fn of(raw: &'a [u8]) -> Result<Self, PayloadError> {
        let mut event = Self::default();
        for field in Fields::of(raw) {
            match field? {
                (2, meta) => event.meta.take(meta.bytes()?)?,
                (3, event_type) => event.event_type = event_type.text()?,
                (4, payload) => event.payload = payload.bytes()?,
                _ => {}
            }
        }
        Ok(event)
    }
}

impl<'a> MetaParts<'a> {
    /// Takes over what an encoded `Meta` says. One that comes in pieces, as protobuf allows, is the sum of them.
    fn take(&mut self, meta: &'a [u8]) -> Result<(), PayloadError> {
        for field in Fields::of(meta) {
            match field? {
                (2, pipeline_id) => self.pipeline_id = pipeline_id.text()?,
                (3, step_id) => self.step_id = step_id.text()?,
                (4, timestamp) => take_timestamp(self.timestamp.get_or_insert_default(), timestamp.bytes()?)?,
                _ => {}
            }
        }
        Ok(())
    }
}

fn take_timestamp(timestamp: &mut Timestamp, bytes: &[u8]) -> Result<(), PayloadError> {
    for field in Fields::of(bytes) {
        match field? {
            // Protobuf's integers are two's complement in a varint.
            (1, seconds) => timestamp.seconds = seconds.varint()?.cast_signed(),
            (2, nanos) => timestamp.nanos = nanos.varint()? as i32,
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use arcgate_api::gateway::v1::{Event, Meta};
    use prost::Message as _;

    use super::*;

    #[test]
    fn parts_are_what_the_full_decoder_reads() {
        let timestamp = Timestamp { seconds: -5, nanos: 999_999_999 };
        let meta = Meta { pipeline_id: "p".into(), step_id: "s".into(), timestamp: Some(timestamp), ..Meta::default() };
        let event = Event { meta: Some(meta), event_type: "t".into(), payload: Some(Default::default()), ..Event::default() };
        let mut raw = event.encode_to_vec();
        // A second piece of the meta.
        let more = Meta { pipeline_id: "q".into(), ..Meta::default() };
        raw.extend(Event { meta: Some(more), ..Event::default() }.encode_to_vec());
        let merged = Event::decode(&raw[..]).unwrap();
        let parts = EventParts::of(&raw).unwrap();
        let meta = merged.meta.unwrap();
        assert_eq!((parts.meta.pipeline_id, parts.meta.step_id), (&*meta.pipeline_id, &*meta.step_id));
        assert_eq!((parts.meta.timestamp, parts.event_type), (meta.timestamp, "t"));
        assert!(EventParts::of(&raw[..raw.len() - 1]).is_err());
    }
}
