package notify

import (
	"encoding/json"
	"time"
)

// State is how far a command is.
type State string

// The states. What was done and found a problem is a failure, with the exit code 3.
const (
	Start   State = "start"
	Success State = "success"
	Failure State = "failure"
	Test    State = "test" // of nothing that happened: told to everybody
)

// Event is what happened, as others read it.
type Event struct {
	FormatVersion int       `json:"format_version"` // 1
	Event         string    `json:"event"`          // Command and State, as backup.success
	Command       string    `json:"command"`
	State         State     `json:"state"`
	Cluster       string    `json:"cluster"`
	Host          string    `json:"host"` // the node's name
	At            time.Time `json:"at"`   // UTC
	// What follows is there when the command has ended.
	Seconds  float64         `json:"duration_seconds,omitempty"`
	ExitCode *int            `json:"exit_code,omitempty"`
	Error    *Fault          `json:"error,omitempty"`  // of a failure
	Result   json.RawMessage `json:"result,omitempty"` // what the command prints with -o json, if it came to that
}

// Fault is why a command failed, as it prints it.
type Fault struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint"`
}
