//! What users see of a release: counts from a log or a query.
