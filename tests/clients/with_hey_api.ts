// What a client does first, through the code that @hey-api/openapi-ts generates.
import * as agora from "./client/index.js";
import { client } from "./client/client.gen.js";

export async function tour(baseUrl: string, email: string, password: string) {
  client.setConfig({ baseUrl });
  await agora.register({ body: { email, password } });
  const signedIn = await agora.signIn({ body: { username: email, password } });
  const tokens = await agora.refresh({ body: { refresh_token: signedIn.data!.refresh_token } });
  client.setConfig({ auth: tokens.data!.access_token });
  const pears = await agora.writePost({ body: { title: "Pears", content: "Ripe?" } });
  const plums = await agora.writePost({ body: { title: "Plums", content: "Ripe?" } });
  const path = { post_id: pears.data!.id };
  const headers = { "If-Match": pears.response!.headers.get("ETag")! };
  const edited = await agora.patchPost({ path, headers, body: { title: "Apples" } });
  const stale = await agora.patchPost({ path, headers, body: { title: "Grapes" } });
  const vote = await agora.putVote({ path: { post_id: plums.data!.id }, body: { dir: 1 } });
  const titles: string[] = [];
  let cursor: string | undefined;
  do {
    const page = await agora.listPosts({ query: { limit: 1, cursor } });
    titles.push(...page.data!.map((post) => post.title));
    cursor = page.response!.headers.get("Link")!.match(/cursor=([\w-]+)[^,]*rel="next"/)?.[1];
  } while (cursor);
  const invalid = await agora.writePost({ body: { title: "", content: "Ripe?" } });
  return [edited.data!.version, stale.error!.type, vote.data!.votes, titles, invalid.error];
}
