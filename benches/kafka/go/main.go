// From Kafka to gzip lines or Parquet with the libraries that Redpanda Connect and Bento are made of (franz-go, klauspost's
// compress, parquet-go), and without their frameworks: the least that either could take. Those two cannot be had by package
// name everywhere.
//
// Usage: peer FORMAT ADDRESS TOPIC GROUP RECORDS OUT_FOLDER. It commits once a file is written.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/parquet-go/parquet-go"
	"github.com/twmb/franz-go/pkg/kgo"
)

const fileBytes = 128 << 20

// Order is a record of the kind `orders` of benches/bench/data.py.
type Order struct {
	Time     time.Time `json:"ts" parquet:"ts,timestamp(millisecond),zstd"`
	ID       string    `json:"order_id" parquet:"order_id,zstd"`
	User     int64     `json:"user_id" parquet:"user_id,zstd"`
	Product  string    `json:"product" parquet:"product,dict,zstd"`
	Event    string    `json:"event" parquet:"event,dict,zstd"`
	Country  string    `json:"country" parquet:"country,dict,zstd"`
	Price    float64   `json:"price" parquet:"price,zstd"`
	Quantity int32     `json:"quantity" parquet:"quantity,zstd"`
	Gift     bool      `json:"is_gift" parquet:"is_gift,zstd"`
	Store    string    `json:"store" parquet:"store,dict,zstd"`
}

// A file under way.
type sink interface {
	add(records []*kgo.Record) error
	end() error
}

type lines struct {
	file *os.File
	gzip *gzip.Writer
}

func (l *lines) add(records []*kgo.Record) error {
	for _, record := range records {
		if _, err := l.gzip.Write(record.Value); err != nil {
			return err
		}
		if _, err := l.gzip.Write([]byte{'\n'}); err != nil {
			return err
		}
	}
	return nil
}

func (l *lines) end() error {
	if err := l.gzip.Close(); err != nil {
		return err
	}
	return l.file.Close()
}

type columns struct {
	file *os.File
	rows *parquet.GenericWriter[Order]
	some []Order
}

func (c *columns) add(records []*kgo.Record) error {
	c.some = c.some[:0]
	for _, record := range records {
		var order Order
		if err := json.Unmarshal(record.Value, &order); err != nil {
			return err
		}
		c.some = append(c.some, order)
	}
	_, err := c.rows.Write(c.some)
	return err
}

func (c *columns) end() error {
	if err := c.rows.Close(); err != nil {
		return err
	}
	return c.file.Close()
}

func open(format, folder string, number int) (sink, error) {
	name := map[string]string{"gzip": ".ndjson.gz", "parquet": ".parquet"}[format]
	file, err := os.Create(filepath.Join(folder, strconv.Itoa(number)+name))
	if err != nil {
		return nil, err
	}
	if format == "parquet" {
		return &columns{file: file, rows: parquet.NewGenericWriter[Order](file)}, nil
	}
	packed, err := gzip.NewWriterLevel(file, gzip.DefaultCompression)
	return &lines{file, packed}, err
}

func run(format, address, topic, group string, records int, folder string) error {
	ctx := context.Background()
	client, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit())
	if err != nil {
		return err
	}
	defer client.Close()
	var into sink
	files, size := 0, 0
	for seen := 0; seen < records; {
		fetched := client.PollFetches(ctx)
		if err := fetched.Err(); err != nil {
			return err
		}
		some := fetched.Records()
		if into == nil {
			if into, err = open(format, folder, files); err != nil {
				return err
			}
		}
		if err := into.add(some); err != nil {
			return err
		}
		for _, record := range some {
			size += len(record.Value)
		}
		seen += len(some)
		if size >= fileBytes || seen == records {
			if err := into.end(); err != nil {
				return err
			}
			if err := client.CommitUncommittedOffsets(ctx); err != nil {
				return err
			}
			into, size, files = nil, 0, files+1
		}
	}
	return nil
}

func main() {
	if len(os.Args) != 7 {
		log.Fatal("usage: peer FORMAT ADDRESS TOPIC GROUP RECORDS OUT_FOLDER")
	}
	records, err := strconv.Atoi(os.Args[5])
	if err == nil {
		err = run(os.Args[1], os.Args[2], os.Args[3], os.Args[4], records, os.Args[6])
	}
	if err != nil {
		log.Fatal(fmt.Errorf("peer: %w", err))
	}
}
