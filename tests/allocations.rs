//! I10: the log path allocates per batch, never per line. A counting allocator shows it: a batch of 10,000 lines takes exactly
//! as many allocations as one of 1,000.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use arcgate_gateway::block::OutputStream;
use arcgate_gateway::budget::Budget;
use arcgate_gateway::decode::{BatchBytes, BufferPool, Compression, DecodeLimits, Decoder, Format};
use arcgate_gateway::id::AgentId;
use arcgate_load::logs::compress;
use arcgate_load::text::BuildLog;
use arcgate_load::{Outcome, Trouble};

thread_local! {
    /// Of this thread only: the test harness has threads of its own.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

#[expect(unsafe_code, reason = "the allocator's interface is unsafe; this only counts and passes on")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many allocations it takes to decode a batch of that many lines, once everything is warm.
fn allocations(lines: usize, compression: Compression) -> Outcome<u64> {
    let text = BuildLog::new(1).lines(lines);
    let wire = arcgate_api::gateway::v1::log_batch::Compression::try_from(match compression {
        Compression::None => 1,
        Compression::Gzip => 2,
        Compression::Zstd => 3,
    })?;
    let batch = BatchBytes {
        compression,
        data: compress(text.as_bytes(), wire)?,
        raw_size: u32::try_from(text.len())?,
        format: Format::Text,
        stream: OutputStream::Stdout,
        level: "info".into(),
        plugin: "shell".into(),
        time: 0,
        agent: AgentId::parse("agent")?,
    };
    let budget = Budget::new(1 << 30);
    let decoder = Decoder::new(DecodeLimits::default(), BufferPool::new(16 << 20), budget.clone());
    let decode = || -> Outcome<u64> {
        let permit = budget.try_take(64 << 20).ok_or("no memory")?;
        let before = ALLOCATIONS.get();
        let decoded = decoder.decode(&batch, permit)?;
        let spent = ALLOCATIONS.get() - before;
        if decoded.lines == lines as u64 { Ok(spent) } else { Err(Trouble::from("lines were lost")) }
    };
    // Buffers of the pool and the decompressors' contexts are made once.
    for _ in 0..3 {
        decode()?;
    }
    decode()
}

#[test]
fn i10_ten_thousand_lines_take_no_more_allocations_than_one_thousand() -> Outcome<()> {
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let (few, many) = (allocations(1_000, compression)?, allocations(10_000, compression)?);
        println!("{compression:?}: {few} allocations for 1,000 lines, {many} for 10,000");
        assert_eq!(few, many, "{compression:?}");
        assert!(few < 20, "{compression:?}: {few} allocations a batch");
    }
    Ok(())
}
