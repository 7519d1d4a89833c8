-- Who did what, written by the api and read by people who have to know. One row for each document that was written.
CREATE SCHEMA audit AUTHORIZATION audit_writer;
SET ROLE audit_writer;
CREATE TABLE audit.entry (
  key text PRIMARY KEY,            -- the document's own name: the same one is noted once
  name text NOT NULL,              -- who wrote it
  tenant text NOT NULL,            -- the writer's
  document_tenant text NOT NULL    -- whose it became
);
-- What was taken out of the trail, and kept.
CREATE TABLE audit.quarantine (LIKE audit.entry INCLUDING ALL);
