import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.langchain4j.data.embedding.Embedding;
import dev.langchain4j.data.segment.TextSegment;
import dev.langchain4j.model.openai.OpenAiEmbeddingModel;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

/**
 * LangChain4j as the tests drive it. Each line of standard input is a call as JSON, and each line
 * of standard output what became of one; `client-process.ts` is the other side.
 */
public final class LangChain4jClient {
  private static final ObjectMapper JSON = new ObjectMapper();

  public static void main(String[] arguments) throws Exception {
    var calls = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = calls.readLine(); line != null; line = calls.readLine()) {
      JsonNode asked = JSON.readTree(line);
      ObjectNode told = JSON.createObjectNode().put("id", asked.get("id").asInt());
      try {
        told.set("vectors", JSON.valueToTree(vectors(asked)));
      } catch (Exception error) {
        told.put("error", error.getClass().getSimpleName() + ": " + error.getMessage());
      }
      System.out.println(JSON.writeValueAsString(told));
    }
  }

  private static List<float[]> vectors(JsonNode asked) {
    var model =
        OpenAiEmbeddingModel.builder()
            .baseUrl(asked.get("url").asText() + "/v1")
            .apiKey("unused")
            .modelName("bge-m3")
            .build();
    var segments = new ArrayList<TextSegment>();
    asked.get("texts").forEach(text -> segments.add(TextSegment.from(text.asText())));
    return model.embedAll(segments).content().stream().map(Embedding::vector).toList();
  }
}
