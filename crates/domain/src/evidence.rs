//! Evidence: the formats of the hash chain, the Merkle tree and the signed checkpoint.
