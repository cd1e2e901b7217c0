package config

import (
	"bytes"
	_ "embed"
)

// schema is made from the structs and their comments by TestReference.
//
//go:embed salvor.schema.json
var schema []byte

// Schema gives the JSON Schema (draft 2020-12) of salvor.yaml, for editors and
// for checks in a pipeline.
func Schema() []byte { return bytes.Clone(schema) }
