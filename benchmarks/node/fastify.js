// Hand-written Node server: Fastify, pg and SQL, on Agora's own tables. It does the work that Agora does for these
// routes: token, session and account verified on every request, drafts hidden, counters and rank kept, entity tags,
// signed cursors. Settings: libpq's own, SECRET_KEY, PORT, PUBLIC_READS; PIPELINE=true sends queries without waiting for
// earlier ones, over two connections.

import { createVerifier } from "fast-jwt";
import Fastify from "fastify";
import pg from "pg";
import {
  BODY_LIMIT, CACHED_TOKENS, CALLER, CLAIMS, CONNECTION, DEFAULT_LIMIT, HEADERS, PORT, PROBLEMS, PUBLIC_READS, SECRET,
  UNCHANGED, entityTag, links, moment, ofAccount, positionOf, voteMessage,
} from "./posts.js";

pg.types.setTypeParser(pg.types.builtins.INT8, Number);

const options = { options: Object.entries(CONNECTION).map(([name, value]) => `-c ${name}=${value}`).join(" ") };

// Connections stay open between rounds.
function pooled() {
  const pool = new pg.Pool({ ...options, max: 10, idleTimeoutMillis: 0 });
  return { query: (query) => pool.query(query), end: () => pool.end() };
}

async function pipelined() {
  const clients = [0, 1].map(() => new pg.Client({ ...options, pipeline: true }));
  await Promise.all(clients.map((client) => client.connect()));
  let next = 0;
  return {
    query: (query) => clients[next++ % clients.length].query(query),
    end: () => Promise.all(clients.map((client) => client.end())),
  };
}

const database = process.env.PIPELINE === "true" ? await pipelined() : pooled();

// Prepared once per connection, by name.
const statement = (name, text) => async (...values) => (await database.query({ name, text, values })).rows;
const findCaller = statement("caller", CALLER);
const getPost = statement("get", ofAccount.get);
const addPost = statement("add", ofAccount.add);
const castVote = statement("vote", ofAccount.vote);
const tally = statement("tally", ofAccount.tally);

const verify = createVerifier({
  key: SECRET,
  algorithms: ["HS256"],
  allowedIss: "agora",
  allowedAud: "agora",
  requiredClaims: CLAIMS,
  cache: CACHED_TOKENS,
});

class Problem extends Error {
  constructor([status, slug, title, detail, challenge]) {
    super(detail);
    Object.assign(this, { status, slug, title, challenge });
  }
}

async function authenticate(request, reply) {
  reply.headers(HEADERS).header("X-Request-ID", request.id);
  const header = request.headers.authorization;
  if (header === undefined && PUBLIC_READS && request.method === "GET") {
    request.caller = 0;
    return;
  }
  if (!header?.startsWith("Bearer ")) throw new Problem(PROBLEMS.notAuthenticated);
  let claims;
  try {
    claims = verify(header.slice(7));
  } catch {
    throw new Problem(PROBLEMS.invalidToken);
  }
  const [caller] = await findCaller(Number(claims.sid), Number(claims.sub));
  if (!caller) throw new Problem(PROBLEMS.invalidToken);
  request.caller = caller.id;
}

function represent({ username, owner_created_at, ...post }) {
  return {
    ...post,
    created_at: moment(post.created_at),
    updated_at: moment(post.updated_at),
    owner: { id: post.owner_id, username, created_at: moment(owner_created_at) },
    votes: post.upvotes - post.downvotes,
  };
}

const time = { type: "string" };
const id = { type: "integer" };
const text = { type: "string" };
const Post = {
  type: "object",
  properties: {
    id,
    title: text,
    content: text,
    published: { type: "boolean" },
    created_at: time,
    updated_at: time,
    version: id,
    owner_id: id,
    owner: { type: "object", properties: { id, username: { type: "string", nullable: true }, created_at: time } },
    votes: id,
    upvotes: id,
    downvotes: id,
    my_vote: id,
  },
};
const Receipt = {
  type: "object",
  properties: { message: text, post_id: id, dir: id, votes: id, upvotes: id, downvotes: id },
};
const PostId = { type: "object", properties: { id: { type: "integer", minimum: 0 } } };
const ListQuery = {
  type: "object",
  properties: {
    limit: { type: "integer", minimum: 1, maximum: 100, default: DEFAULT_LIMIT },
    cursor: text,
    owner_id: { type: "integer", minimum: 1 },
    published: { type: "string", enum: ["false"] },
  },
};
const NewPost = {
  type: "object",
  required: ["title", "content"],
  properties: {
    title: { type: "string", minLength: 1, maxLength: 300, pattern: "\\S" },
    content: { type: "string", minLength: 1, maxLength: 65536, pattern: "\\S" },
    published: { type: "boolean", default: true },
  },
};
const NewVote = { type: "object", required: ["dir"], properties: { dir: { type: "integer", enum: [1, -1] } } };

const app = Fastify({ bodyLimit: BODY_LIMIT, requestIdHeader: "x-request-id", keepAliveTimeout: 60_000 });
app.decorateRequest("caller", null);
app.addHook("onRequest", authenticate);

app.get(
  "/posts",
  { schema: { querystring: ListQuery, response: { 200: { type: "array", items: Post } } } },
  async ({ caller, query }, reply) => {
    const { limit, cursor, owner_id: owner, published } = query;
    const after = cursor && positionOf(cursor);
    if (after === null) throw new Problem(PROBLEMS.invalidCursor);
    const kind = { limit, drafts: published === "false", owner, after };
    const { name, text } = ofAccount.list(kind);
    const rows = await statement(name, text)(caller, ...(owner ? [owner] : []), ...(after || []));
    const page = rows.slice(0, limit).map(represent);
    reply.header("Link", links(kind, rows.length > limit && page.at(-1)));
    return page;
  },
);

app.get(
  "/posts/:id",
  { schema: { params: PostId, response: { 200: Post } } },
  async ({ caller, params, headers }, reply) => {
    const [post] = await getPost(caller, params.id);
    if (post.id === null) throw new Problem(PROBLEMS.postNotFound(params.id));
    const tag = entityTag(post);
    reply.header("ETag", tag);
    if (headers["if-none-match"] === tag) return reply.code(304).send();
    return represent(post);
  },
);

app.post("/posts", { schema: { body: NewPost, response: { 201: Post } } }, async ({ caller, body }, reply) => {
  const title = body.title.trim();
  const [post] = await addPost(caller, title, body.content, body.published, title.toLowerCase());
  reply.code(201).headers({ Location: `/posts/${post.id}`, ETag: entityTag(post) });
  return represent(post);
});

app.put(
  "/posts/:id/vote",
  { schema: { params: PostId, body: NewVote, response: { 200: Receipt } } },
  async ({ caller, params, body }) => {
    let [post] = await castVote(caller, params.id, body.dir);
    const message = post ? voteMessage(post.added) : UNCHANGED;
    if (!post) {
      [post] = await tally(caller, params.id);
      if (post.id === null) throw new Problem(PROBLEMS.postNotFound(params.id));
    }
    const { upvotes, downvotes } = post;
    return { message, post_id: params.id, dir: body.dir, votes: upvotes - downvotes, upvotes, downvotes };
  },
);

app.setErrorHandler((error, request, reply) => {
  const status = error.status ?? (error.validation ? 422 : (error.statusCode ?? 500));
  if (error.challenge) reply.header("WWW-Authenticate", error.challenge);
  reply
    .code(status)
    .type("application/problem+json")
    .send({
      type: `/problems/${error.slug ?? (status === 422 ? "validation" : "internal")}`,
      title: error.title ?? "Problem",
      status,
      detail: status === 500 ? "something went wrong" : error.message,
      instance: request.id,
    });
  if (status === 500) console.error(error);
});

await app.listen({ host: "127.0.0.1", port: PORT });
process.on("SIGTERM", async () => {
  await app.close();
  await database.end();
});
