//! What the server counts, for `/metrics` in the Prometheus text format.

use std::sync::atomic::AtomicI64;
use std::time::Instant;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// A call and how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CallLabels {
    /// The call: `load`, `get`, `sql`, …
    pub call: &'static str,
    /// `ok`, or the code of the error.
    pub outcome: &'static str,
}

/// What S3 bills a request as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(missing_docs)]
pub enum S3Operation {
    Get,
    Head,
    List,
    Put,
    /// A put that only succeeds where nothing is.
    ConditionalPut,
    /// A part of a multipart upload begun or completed.
    Post,
    Delete,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct S3Labels {
    operation: S3Operation,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DynamoDbLabels {
    operation: String,
}

type LatencyFamily = Family<CallLabels, Histogram, fn() -> Histogram>;

/// The counters of one server process. Cheap to clone: all clones count together.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Loads that were committed.
    pub loads: Counter,
    /// Rows of committed loads.
    pub rows_loaded: Counter,
    /// Arrow bytes of committed loads.
    pub bytes_loaded: Counter,
    /// Chunks written by committed loads.
    pub chunks_written: Counter,
    /// Chunks that reads could have needed.
    pub chunks_considered: Counter,
    /// Chunks that the index ruled out, so that nothing of them was read.
    pub chunks_pruned: Counter,
    /// Chunks that reads opened.
    pub chunks_read: Counter,
    /// Bytes of chunks that reads fetched.
    pub bytes_read: Counter,
    /// Rows sent to clients.
    pub rows_sent: Counter,
    /// Calls now running.
    pub calls_running: Gauge,
    /// Memory that queries have reserved of `--memory-limit`, when the page is asked for.
    pub query_memory: Gauge,
    /// Disk that queries have spilled to, when the page is asked for.
    pub spilled: Gauge,
    s3_requests: Family<S3Labels, Counter>,
    dynamodb_requests: Family<DynamoDbLabels, Counter>,
    latency: LatencyFamily,
}

fn latency_histogram() -> Histogram {
    // 0.5 ms to about 130 s in steps of two.
    Histogram::new(exponential_buckets(0.0005, 2.0, 19))
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            loads: Counter::default(),
            rows_loaded: Counter::default(),
            bytes_loaded: Counter::default(),
            chunks_written: Counter::default(),
            chunks_considered: Counter::default(),
            chunks_pruned: Counter::default(),
            chunks_read: Counter::default(),
            bytes_read: Counter::default(),
            rows_sent: Counter::default(),
            calls_running: Gauge::default(),
            s3_requests: Family::default(),
            dynamodb_requests: Family::default(),
            query_memory: Gauge::default(),
            spilled: Gauge::default(),
            latency: Family::new_with_constructor(latency_histogram),
        }
    }
}

impl Metrics {
    /// Starts the measurement of one call; dropping the result without an outcome counts it as cancelled.
    pub fn call(&self, call: &'static str) -> CallTimer {
        self.calls_running.inc();
        CallTimer { metrics: self.clone(), call, started: Instant::now(), outcome: "CANCELLED" }
    }

    /// Counts a committed load: its rows, their Arrow bytes, and its chunks.
    pub fn count_load(&self, rows: i64, bytes: i64, chunks: i64) {
        self.loads.inc();
        self.rows_loaded.inc_by(rows.unsigned_abs());
        self.bytes_loaded.inc_by(bytes.unsigned_abs());
        self.chunks_written.inc_by(chunks.unsigned_abs());
    }

    /// Counts a request to S3, each try of it.
    pub fn count_s3_request(&self, operation: S3Operation) {
        self.s3_requests.get_or_create(&S3Labels { operation }).inc();
    }

    /// Counts a request to DynamoDB, each try of it, by its name there: `GetItem`, `PutItem`, …
    pub fn count_dynamodb_request(&self, operation: &str) {
        self.dynamodb_requests.get_or_create(&DynamoDbLabels { operation: operation.into() }).inc();
    }

    /// The Prometheus text of everything counted, with the process's resident memory as of now.
    pub fn render(&self) -> String {
        let mut registry = Registry::with_prefix("pandas_db");
        registry.register("loads", "Loads that were committed", self.loads.clone());
        registry.register("rows_loaded", "Rows of committed loads", self.rows_loaded.clone());
        registry.register("bytes_loaded", "Arrow bytes of committed loads", self.bytes_loaded.clone());
        registry.register("chunks_written", "Chunks written by committed loads", self.chunks_written.clone());
        registry.register("chunks_considered", "Chunks that reads could have needed", self.chunks_considered.clone());
        registry.register("chunks_pruned", "Chunks that the index ruled out", self.chunks_pruned.clone());
        registry.register("chunks_read", "Chunks that reads opened", self.chunks_read.clone());
        registry.register("bytes_read", "Bytes of chunks that reads fetched", self.bytes_read.clone());
        registry.register("rows_sent", "Rows sent to clients", self.rows_sent.clone());
        registry.register("calls_running", "Calls now running", self.calls_running.clone());
        registry.register("s3_requests", "Requests to S3, each try", self.s3_requests.clone());
        registry.register("dynamodb_requests", "Requests to DynamoDB, each try", self.dynamodb_requests.clone());
        registry.register("query_memory_bytes", "Memory that queries have reserved", self.query_memory.clone());
        registry.register("spilled_bytes", "Disk that queries have spilled to", self.spilled.clone());
        registry.register("call_duration_seconds", "Time from call to end", self.latency.clone());
        let memory: Gauge<i64, AtomicI64> = Gauge::default();
        memory.set(memory_stats::memory_stats().map_or(0, |stats| stats.physical_mem as i64));
        registry.register("resident_memory_bytes", "Resident memory of the process", memory);
        let mut text = String::new();
        // Writing into a String cannot fail; a formatting error would only cut the page short.
        let _ = encode(&mut text, &registry);
        text
    }
}

/// The running measurement of one call.
#[derive(Debug)]
pub struct CallTimer {
    metrics: Metrics,
    call: &'static str,
    started: Instant,
    outcome: &'static str,
}

impl CallTimer {
    /// Records how the call ended: `ok` or an error's code.
    pub fn finish(mut self, outcome: &'static str) {
        self.outcome = outcome;
    }

    /// Seconds since the call began.
    pub fn elapsed_seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }
}

impl Drop for CallTimer {
    fn drop(&mut self) {
        self.metrics.calls_running.dec();
        let labels = CallLabels { call: self.call, outcome: self.outcome };
        self.metrics.latency.get_or_create(&labels).observe(self.started.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_latency_show_in_the_text() {
        let metrics = Metrics::default();
        metrics.chunks_read.inc_by(3);
        metrics.call("get").finish("ok");
        let text = metrics.render();
        assert!(text.contains("pandas_db_chunks_read_total 3"), "{text}");
        assert!(text.contains(r#"pandas_db_call_duration_seconds_count{call="get",outcome="ok"} 1"#), "{text}");
        assert!(text.contains("pandas_db_resident_memory_bytes "), "{text}");
    }
}
