// Package catalog says what exists in a repository: the places of clusters,
// backups with their file tables, the WAL archive with its timelines, and which
// backup and WAL lead to a recovery target.
//
// Words:
//
//   - A place is where one life of a cluster is kept: system identifier and
//     incarnation. A copy restored beside its original has the same system
//     identifier and another incarnation, so it can not archive into the
//     original's place.
//   - A head is a backup: small, sealed, written last. Without it the backup does
//     not exist. The file table says what is in the data directory and where its
//     blocks are; the pack list says which packs that takes.
//   - The archive is the WAL of a place by timeline, and the histories that tie
//     timelines together. A path is the way from a backup to a target through it.
//   - A proof is the record of a restore or a verification, in a signed envelope. What
//     the proofs tell of each backup is its Verification.
//
// Objects are named by Place; docs/format/README.md has the list.
package catalog
