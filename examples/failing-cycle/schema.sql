-- What all tills share. The shop's role writes it, lastgood's role reads it.
CREATE SCHEMA ledger AUTHORIZATION shop;
SET ROLE shop;

-- One row for each order that was posted. `key` is the request's: the same request posts once.
CREATE TABLE ledger.posting (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  key text NOT NULL UNIQUE,
  order_id text NOT NULL,
  customer text NOT NULL,
  cents bigint NOT NULL
);

-- Derived: it holds nothing that ledger.posting does not.
CREATE TABLE ledger.total (
  customer text PRIMARY KEY,
  cents bigint NOT NULL,
  orders bigint NOT NULL
);

CREATE FUNCTION ledger.rebuild() RETURNS void LANGUAGE sql AS $$
  -- Nobody posts meanwhile: each posting is either counted here or added after.
  LOCK TABLE ledger.posting IN SHARE ROW EXCLUSIVE MODE;
  DELETE FROM ledger.total;
  INSERT INTO ledger.total SELECT customer, sum(cents), count(*) FROM ledger.posting GROUP BY customer;
$$;
