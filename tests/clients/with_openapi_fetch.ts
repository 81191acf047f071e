// What a client does first, through openapi-fetch and the types that openapi-typescript generates.
import createClient from "openapi-fetch";
import type { paths } from "./schema.js";

export async function tour(baseUrl: string, email: string, password: string) {
  const client = createClient<paths>({ baseUrl });
  await client.POST("/users", { body: { email, password } });
  const headers = { "Content-Type": "application/x-www-form-urlencoded" };
  const signedIn = await client.POST("/login", { body: { username: email, password }, headers });
  const tokens = await client.POST("/refresh", { body: { refresh_token: signedIn.data!.refresh_token } });
  client.use({ onRequest: ({ request }) => request.headers.set("Authorization", `Bearer ${tokens.data!.access_token}`) });
  const pears = await client.POST("/posts", { body: { title: "Pears", content: "Ripe?" } });
  const plums = await client.POST("/posts", { body: { title: "Plums", content: "Ripe?" } });
  const header = { "If-Match": pears.response.headers.get("ETag")! };
  const params = { path: { post_id: pears.data!.id }, header };
  const edited = await client.PATCH("/posts/{post_id}", { params, body: { title: "Apples" } });
  const stale = await client.PATCH("/posts/{post_id}", { params, body: { title: "Grapes" } });
  const path = { post_id: plums.data!.id };
  const vote = await client.PUT("/posts/{post_id}/vote", { params: { path }, body: { dir: 1 } });
  const titles: string[] = [];
  let cursor: string | undefined;
  do {
    const page = await client.GET("/posts", { params: { query: { limit: 1, cursor } } });
    titles.push(...page.data!.map((post) => post.title));
    cursor = page.response.headers.get("Link")!.match(/cursor=([\w-]+)[^,]*rel="next"/)?.[1];
  } while (cursor);
  const invalid = await client.POST("/posts", { body: { title: "", content: "Ripe?" } });
  return [edited.data!.version, stale.error!.type, vote.data!.votes, titles, invalid.error];
}
