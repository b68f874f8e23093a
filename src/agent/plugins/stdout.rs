//! `stdout`: writes a message into the log.

use super::{Work, args};
use crate::agent::step::Ending;
use crate::push::spool::Stream;

pub(super) fn run(work: &Work<'_>) -> Ending {
    match args::first_text(&work.args, &["message", "content", "text"]) {
        Some(message) => {
            work.log.write(Stream::Stdout, &message);
            Ending::Succeeded
        }
        None => Ending::failed("there is nothing to write; give args.message"),
    }
}
