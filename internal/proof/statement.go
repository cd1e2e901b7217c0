package proof

import (
	"encoding/json"
	"fmt"
)

// StatementType says that a statement is in-toto's, version 1.
const StatementType = "https://in-toto.io/Statement/v1"

// Statement says something of subjects.
type Statement struct {
	Type          string          `json:"_type"`
	Subject       []Subject       `json:"subject"`
	PredicateType string          `json:"predicateType"`
	Predicate     json.RawMessage `json:"predicate"`
}

// Subject is what a statement is about.
type Subject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"` // by algorithm, in hexadecimal digits
}

// parseStatement reads the payload of an envelope.
func parseStatement(payload []byte) (Statement, error) {
	var s Statement
	if err := json.Unmarshal(payload, &s); err != nil {
		return Statement{}, fmt.Errorf("reading a statement: %w", err)
	}
	if s.Type != StatementType {
		return Statement{}, fmt.Errorf("it is a statement of type %.80q, and not %q", s.Type, StatementType)
	}
	return s, nil
}
