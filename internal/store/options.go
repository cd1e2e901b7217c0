package store

import "fmt"

// Validate refuses a condition that can never hold. For backends.
func (o CreateOptions) Validate() error {
	if o.IfAbsent && o.IfMatch != "" {
		return fmt.Errorf("creating an object: IfAbsent and IfMatch %q exclude each other", o.IfMatch)
	}
	return nil
}
