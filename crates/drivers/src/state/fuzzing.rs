//! A fuzz target for what a snapshot says of itself.
#![expect(clippy::unwrap_used, reason = "what can't be unwrapped is what the fuzzer looks for")]

use super::manifest::{Manifest, RawBytes};

/// Any bytes are written so that they come back; a manifest comes back, and none of its paths leads out of its root.
pub(crate) fn snapshot_manifest(bytes: &[u8]) {
    let raw = RawBytes(bytes.to_vec());
    let written = serde_json::to_string(&raw).unwrap();
    assert_eq!(serde_json::from_str::<RawBytes>(&written).unwrap(), raw);
    if let Ok(read) = serde_json::from_slice::<RawBytes>(bytes) {
        let text: String = serde_json::from_slice(bytes).unwrap();
        let escapes = text.split('%').skip(1);
        let two = |escape: &str| escape.as_bytes().get(..2).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit));
        assert!(escapes.into_iter().all(two), "{text:?} is read as {read:?}");
    }
    let Ok(manifest) = serde_json::from_slice::<Manifest>(bytes) else { return };
    let back: Manifest = serde_json::from_slice(&serde_json::to_vec(&manifest).unwrap()).unwrap();
    assert_eq!(back, manifest);
    for entry in &manifest.entries {
        let path = entry.path.path();
        assert!(path.is_relative() && path.components().all(|part| part.as_os_str() != ".."), "{}", path.display());
    }
}
