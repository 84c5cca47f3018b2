// Drops records of one level, and hides e-mail addresses.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
)

var dropLevel = "debug"

// Init is called once, before any record, with the config of the pipeline file: JSON, or an empty text. With an error the
// pipeline does not start.
func Init(config string) error {
	if config == "" {
		return nil
	}
	options := struct {
		DropLevel *string `json:"drop_level"`
	}{&dropLevel}
	if err := json.Unmarshal([]byte(config), &options); err != nil {
		return fmt.Errorf("config: %w", err)
	}
	return nil
}

// Process takes one record and gives what it becomes (none: it is dropped), or why it is set aside.
func Process(event Event) ([]Output, error) {
	var record map[string]json.RawMessage
	if err := json.Unmarshal(event.Data, &record); err != nil {
		return nil, fmt.Errorf("not a JSON object: %w", err)
	}
	var level string
	if json.Unmarshal(record["level"], &level) != nil {
		return nil, errors.New("no field `level`")
	}
	if level == dropLevel {
		return nil, nil
	}
	if _, ok := record["email"]; ok {
		record["email"] = json.RawMessage(`"***"`)
	}
	data, err := json.Marshal(record)
	return []Output{{Data: data}}, err
}
