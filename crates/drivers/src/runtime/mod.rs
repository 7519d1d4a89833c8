//! What runs instances.
