// The contract with hydrant, wit/hydrant.wit, around Init and Process. Nothing here is to be changed.

package main

import (
	"encoding/binary"
	"unsafe"
)

// Event is a record on its way.
type Event struct {
	Data      []byte
	ArrivalMs uint64  // when hydrant received it, in milliseconds since the Unix epoch
	Key       []byte  // nil where the source has no keys
	Origin    *Origin // nil where the source knows no topics
}

// Origin is where a record comes from.
type Origin struct {
	Topic     string
	Partition uint32
	Offset    uint64
	Headers   []Header
}

// Header is one of a record's headers.
type Header struct {
	Name  string
	Value []byte
}

// Output is what a record becomes.
type Output struct {
	Data          []byte
	PartitionKeys map[string]string // for the prefix, !{partitionKey:name}
}

// Level of a line in the pipeline's log.
type Level uint32

const (
	Debug Level = iota
	Info
	Warn
	Error
)

// Log writes a line to the pipeline's log.
func Log(level Level, message string) {
	hostLog(uint32(level), unsafe.Pointer(unsafe.StringData(message)), uint32(len(message)))
}

//go:wasmimport hydrant:transform/host@0.1.0 log
func hostLog(level uint32, message unsafe.Pointer, length uint32)

// Structs of the canonical ABI, little endian, addresses of 32 bits:
//
//	event   72 bytes: data 0, arrival-ms 8, key 16 (there) and 20, origin 32 (there) and
//	        40 (topic), 48 (partition), 56 (offset), 64 (headers)
//	pair    16 bytes: name 0, value 8         output 16 bytes: data 0, partition-keys 8
//	outcome 12 bytes: failed 0, outputs or reason 4
//
// A list or text is its address and its length.
const eventSize, pairSize, outputSize, outcomeSize = 72, 16, 16, 12

// What hydrant has written or will read: it lives until the answer is copied.
var held [][]byte

func hold(length uint32) []byte {
	// Of words, so that it is aligned to 8 bytes.
	words := make([]uint64, length/8+1)
	bytes := unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), length)
	held = append(held, bytes)
	return bytes
}

func address(bytes []byte) uint32 {
	return uint32(uintptr(unsafe.Pointer(unsafe.SliceData(bytes))))
}

func at(address, length uint32) []byte {
	return unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(nil), address)), length)
}

func u32(bytes []byte, offset int) uint32 { return binary.LittleEndian.Uint32(bytes[offset:]) }

func u64(bytes []byte, offset int) uint64 { return binary.LittleEndian.Uint64(bytes[offset:]) }

// The bytes of a list of bytes or text.
func list(bytes []byte, offset int) []byte { return at(u32(bytes, offset), u32(bytes, offset+4)) }

func put(bytes []byte, offset int, list []byte, length int) {
	binary.LittleEndian.PutUint32(bytes[offset:], address(list))
	binary.LittleEndian.PutUint32(bytes[offset+4:], uint32(length))
}

func putText(bytes []byte, offset int, text string) {
	copied := hold(uint32(len(text)))
	copy(copied, text)
	put(bytes, offset, copied, len(text))
}

//go:wasmexport cabi_realloc
func realloc(old, oldLength, align, length uint32) unsafe.Pointer {
	bytes := hold(length)
	if oldLength > 0 {
		copy(bytes, at(old, oldLength))
	}
	return unsafe.Pointer(unsafe.SliceData(bytes))
}

//go:wasmexport hydrant:transform/transformer@0.1.0#init
func transformerInit(config, length uint32) unsafe.Pointer {
	answer := hold(outcomeSize)
	if err := Init(string(at(config, length))); err != nil {
		fail(answer, err)
	}
	return unsafe.Pointer(unsafe.SliceData(answer))
}

//go:wasmexport hydrant:transform/transformer@0.1.0#process
func transformerProcess(events, length uint32) unsafe.Pointer {
	outcomes := hold(length * outcomeSize)
	for i := range int(length) {
		outcome := outcomes[i*outcomeSize : (i+1)*outcomeSize]
		outputs, err := Process(eventOf(at(events+uint32(i)*eventSize, eventSize)))
		if err != nil {
			fail(outcome, err)
			continue
		}
		list := hold(uint32(len(outputs)) * outputSize)
		for j, output := range outputs {
			putOutput(list[j*outputSize:(j+1)*outputSize], output)
		}
		put(outcome, 4, list, len(outputs))
	}
	answer := hold(8)
	put(answer, 0, outcomes, int(length))
	return unsafe.Pointer(unsafe.SliceData(answer))
}

//go:wasmexport cabi_post_hydrant:transform/transformer@0.1.0#process
func answered(uint32) {
	clear(held)
	held = held[:0]
}

func fail(outcome []byte, err error) {
	outcome[0] = 1
	putText(outcome, 4, err.Error())
}

func putOutput(to []byte, output Output) {
	held = append(held, output.Data)
	put(to, 0, output.Data, len(output.Data))
	if len(output.PartitionKeys) == 0 {
		return
	}
	pairs := hold(uint32(len(output.PartitionKeys)) * pairSize)
	put(to, 8, pairs, len(output.PartitionKeys))
	for name, value := range output.PartitionKeys {
		putText(pairs, 0, name)
		putText(pairs, 8, value)
		pairs = pairs[pairSize:]
	}
}

func eventOf(from []byte) Event {
	event := Event{Data: list(from, 0), ArrivalMs: u64(from, 8)}
	if from[16] != 0 {
		event.Key = list(from, 20)
	}
	if from[32] != 0 {
		event.Origin = &Origin{Topic: string(list(from, 40)), Partition: u32(from, 48), Offset: u64(from, 56)}
		pairs := at(u32(from, 64), u32(from, 68)*pairSize)
		for ; len(pairs) > 0; pairs = pairs[pairSize:] {
			event.Origin.Headers = append(event.Origin.Headers, Header{string(list(pairs, 0)), list(pairs, 8)})
		}
	}
	return event
}

func main() {}
