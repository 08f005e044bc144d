// The JDK's HTTP client as it comes, which offers HTTP/2 (`Upgrade: h2c`) with each request, against a running node.
// usage: java Chat.java BASE_URL API_KEY ENDPOINT: prints status and body of a call, of a stream and of a GET.
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;

public class Chat {
    static final HttpClient client = HttpClient.newHttpClient();

    public static void main(String[] args) throws Exception {
        String ask = "{\"model\":\"" + args[2] + "\",\"messages\":[{\"role\":\"user\",\"content\":"
            + "\"What is the capital of France?\"}],\"max_tokens\":16";
        for (String body : new String[] {ask + "}", ask + ",\"stream\":true}", null}) {
            HttpRequest.Builder request = HttpRequest
                .newBuilder(URI.create(args[0] + (body == null ? "/models" : "/chat/completions")))
                .header("Authorization", "Bearer " + args[1]);
            if (body != null) {
                request.header("Content-Type", "application/json").POST(HttpRequest.BodyPublishers.ofString(body));
            }
            var answer = client.send(request.build(), BodyHandlers.ofString());
            System.out.println(answer.statusCode() + " " + answer.version() + " " + answer.body().replace("\n", " "));
        }
    }
}
