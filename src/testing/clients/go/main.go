// go-openai as the tests drive it. Each line of standard input is a call as JSON, and each line of
// standard output what became of one; `client-process.ts` is the other side.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"

	openai "github.com/sashabaranov/go-openai"
)

type call struct {
	ID    int      `json:"id"`
	URL   string   `json:"url"`
	Texts []string `json:"texts"`
}

type answer struct {
	ID      int         `json:"id"`
	Vectors [][]float32 `json:"vectors,omitempty"`
	Error   string      `json:"error,omitempty"`
}

func vectors(asked call) ([][]float32, error) {
	config := openai.DefaultConfig("unused")
	config.BaseURL = asked.URL + "/v1"
	request := openai.EmbeddingRequestStrings{Model: "bge-m3", Input: asked.Texts}
	reply, err := openai.NewClientWithConfig(config).CreateEmbeddings(context.Background(), request)
	if err != nil {
		return nil, err
	}
	rows := make([][]float32, len(reply.Data))
	for _, row := range reply.Data {
		rows[row.Index] = row.Embedding
	}
	return rows, nil
}

func main() {
	answers := json.NewEncoder(os.Stdout)
	calls := json.NewDecoder(bufio.NewReader(os.Stdin))
	for {
		var asked call
		if err := calls.Decode(&asked); err != nil {
			return
		}
		told := answer{ID: asked.ID}
		rows, err := vectors(asked)
		told.Vectors = rows
		if err != nil {
			told.Error = fmt.Sprintf("%T: %v", err, err)
		}
		if err := answers.Encode(told); err != nil {
			panic(err)
		}
	}
}
