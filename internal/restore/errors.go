package restore

import "fmt"

// Refusal says why a directory is not restored into, and what helps.
type Refusal struct {
	Reason string
	Hint   string
}

// Error implements error.
func (r *Refusal) Error() string { return r.Reason }

func refuse(hint, format string, args ...any) error {
	return &Refusal{Reason: fmt.Sprintf(format, args...), Hint: hint}
}
