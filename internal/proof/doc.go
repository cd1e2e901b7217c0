// Package proof signs statements about backups, and checks them with a public key
// alone: with no repository, no configuration and no network.
//
//   - A Statement says of a subject, by the digest of its bytes, what a predicate tells.
//     It is one of in-toto's, version 1
//     (https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md). What the
//     predicate is, the caller knows: package catalog has it.
//   - An Envelope is a statement with signatures, a DSSE, version 1
//     (https://github.com/secure-systems-lab/dsse/blob/master/envelope.md). A signature is
//     of the payload's very bytes and its type, put together by PAE, so nothing of it can
//     be read in two ways. Who reads a statement reads those bytes.
//   - A Signer has the private key, a PublicKey the other. Both are Ed25519 (RFC 8032),
//     in the PEM files that other tools make and read: PKCS#8 (RFC 5958) and
//     SubjectPublicKeyInfo (RFC 5280). The identifier of a key is the SHA-256 of the
//     latter's DER.
//
// An envelope without a signature is one, too: it tells the same, and nobody vouches for
// it. Check never takes it for signed.
package proof
