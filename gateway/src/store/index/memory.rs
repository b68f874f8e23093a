//! An index in memory, for tests: as naive as can be, and able to be set back as a crash would.

#![expect(clippy::disallowed_types, reason = "for tests only")]

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::{EventEntry, EventUpdate, Index, LineUpdate, LogKind, StreamRecord};
use crate::id::{AgentId, StepRunId};
use crate::store::lines::BlockRef;
use crate::store::{Position, StoreError};

/// All that an index knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct State {
    lines_indexed: Position,
    events_indexed: Position,
    streams: BTreeMap<StepRunId, StreamRecord>,
    blocks: BTreeMap<StepRunId, BTreeMap<(u64, Position), u32>>,
    events: BTreeMap<(AgentId, Box<str>), EventEntry>,
}

/// An index in memory.
#[derive(Debug, Default)]
pub(crate) struct MemoryIndex {
    state: Mutex<State>,
}

impl MemoryIndex {
    /// What it knows now.
    pub(crate) fn snapshot(&self) -> State {
        self.state.lock().clone()
    }

    /// Sets it back to what it knew then.
    pub(crate) fn restore(&self, state: State) {
        *self.state.lock() = state;
    }
}

impl Index for MemoryIndex {
    fn indexed(&self, log: LogKind) -> Result<Position, StoreError> {
        let state = self.state.lock();
        Ok(match log {
            LogKind::Lines => state.lines_indexed,
            LogKind::Events => state.events_indexed,
        })
    }

    fn stream(&self, step_run: &StepRunId) -> Result<Option<StreamRecord>, StoreError> {
        Ok(self.state.lock().streams.get(step_run).cloned())
    }

    fn streams(&self, after: Option<&StepRunId>, limit: usize) -> Result<Vec<(StepRunId, StreamRecord)>, StoreError> {
        let state = self.state.lock();
        let following = state.streams.iter().filter(|(id, _)| after.is_none_or(|after| *id > after));
        Ok(following.take(limit).map(|(id, record)| (id.clone(), record.clone())).collect())
    }

    fn blocks_from(&self, step_run: &StepRunId, line: u64, limit: usize) -> Result<Vec<BlockRef>, StoreError> {
        let state = self.state.lock();
        let blocks = state.blocks.get(step_run).into_iter().flatten();
        Ok(blocks
            .map(|(&(first_line, position), &lines)| BlockRef { first_line, lines, position })
            .filter(|block| block.first_line >= line || block.next_line() > line)
            .take(limit)
            .collect())
    }

    fn apply_lines(&self, up_to: Position, updates: &[LineUpdate]) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        for update in updates {
            state.streams.insert(update.step_run.clone(), update.record.clone());
            let blocks = state.blocks.entry(update.step_run.clone()).or_default();
            blocks.extend(update.blocks.iter().map(|block| ((block.first_line, block.position), block.lines)));
        }
        assert!(state.lines_indexed <= up_to, "`indexed up to` never goes back");
        state.lines_indexed = up_to;
        Ok(())
    }

    fn event(&self, agent: &AgentId, name: &str) -> Result<Option<EventEntry>, StoreError> {
        Ok(self.state.lock().events.get(&(agent.clone(), name.into())).copied())
    }

    fn apply_events(&self, up_to: Position, updates: &[EventUpdate]) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        for update in updates {
            state.events.insert((update.agent.clone(), update.name.clone()), update.entry);
        }
        assert!(state.events_indexed <= up_to, "`indexed up to` never goes back");
        state.events_indexed = up_to;
        Ok(())
    }

    fn forget_blocks(&self, step_run: &StepRunId, blocks: &[BlockRef]) -> Result<(), StoreError> {
        if let Some(known) = self.state.lock().blocks.get_mut(step_run) {
            known.retain(|key, _| !blocks.iter().any(|block| *key == (block.first_line, block.position)));
        }
        Ok(())
    }

    fn forget_stream(&self, step_run: &StepRunId) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        state.streams.remove(step_run);
        state.blocks.remove(step_run);
        Ok(())
    }

    fn forget_events(&self, keys: &[(AgentId, Box<str>)]) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        for key in keys {
            state.events.remove(key);
        }
        Ok(())
    }

    fn clear(&self) -> Result<(), StoreError> {
        *self.state.lock() = State::default();
        Ok(())
    }

    fn bytes(&self) -> u64 {
        0
    }
}
