//! A fuzz target for what Prometheus answers.

use super::prometheus::{count, told};
use serde_json::Value;

/// An answer that is taken says success and one number; a count is one that can be counted.
pub(crate) fn prometheus_answer(bytes: &[u8]) {
    let Ok(Some(number)) = told(200, bytes, "http://127.0.0.1:9090", "requests") else { return };
    let answer: Value = serde_json::from_slice(bytes).unwrap_or_default();
    assert!(answer["status"] == "success" && answer["warnings"].get(0).is_none(), "{answer} is taken for a number");
    if let Ok(count) = count(number) {
        assert!(number.is_finite() && (count as f64 - number).abs() <= 0.5);
    }
}
