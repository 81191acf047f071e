// Hand-written server for Bun: Bun.serve and Bun.sql, on Agora's own tables, with the work of fastify.js. Each request is
// one statement, which verifies session and account too; statements are pipelined over two connections. Settings: those
// of fastify.js, and PROCESSES, the number of processes that share the port.

import { createHmac, timingSafeEqual } from "node:crypto";
import {
  BODY_LIMIT, CACHED_TOKENS, CALLER, CLAIMS, CONNECTION, DEFAULT_LIMIT, HEADERS, PORT, PROBLEMS, PUBLIC_READS, SECRET,
  UNCHANGED, entityTag, links, moment, ofAccount, positionOf, statements, voteMessage,
} from "./posts.js";

const env = process.env;
const PROCESSES = Number(env.PROCESSES ?? 1);
if (PROCESSES > 1) {
  const command = [process.execPath, import.meta.path];
  const servers = Array.from({ length: PROCESSES }, () =>
    Bun.spawn(command, { env: { ...env, PROCESSES: "1" }, stdio: ["ignore", "inherit", "inherit"] }),
  );
  process.on("SIGTERM", () => servers.forEach((server) => server.kill()));
  await Promise.all(servers.map((server) => server.exited));
  process.exit(0);
}

const CONNECTIONS = 2;
const sql = new Bun.SQL({
  adapter: "postgres",
  hostname: env.PGHOST,
  port: Number(env.PGPORT),
  username: env.PGUSER,
  password: env.PGPASSWORD,
  database: env.PGDATABASE,
  max: CONNECTIONS,
  connection: CONNECTION,
});
// Connections are opened by the first queries; these last long enough for one on each.
await Promise.all(Array.from({ length: CONNECTIONS }, () => sql.unsafe("SELECT pg_sleep(0.05)")));
const ask = (text, values) => sql.unsafe(text, values).values();

// A signed-in caller is a session and an account, verified by each statement; a reader without an account is number 0.
const ofSession = statements(CALLER, "$2", 3);

// ------------------------------------------------------------------------------------------------------------ callers
const verified = new Map(); // claims by header: the signature is verified once, the time on each request

function verify(header) {
  const [head, payload, signed] = header.slice(7).split(".");
  const { alg } = JSON.parse(Buffer.from(head, "base64url"));
  const expected = createHmac("sha256", SECRET).update(`${head}.${payload}`).digest();
  const given = Buffer.from(signed, "base64url");
  if (alg !== "HS256" || given.length !== expected.length || !timingSafeEqual(given, expected)) return null;
  const claims = JSON.parse(Buffer.from(payload, "base64url"));
  if (claims.iss !== "agora" || claims.aud !== "agora" || CLAIMS.some((name) => claims[name] === undefined)) return null;
  return { values: [Number(claims.sid), Number(claims.sub)], of: ofSession, exp: claims.exp };
}

const ANONYMOUS = { values: [0], of: ofAccount, exp: Infinity };

// The caller that a request names, or the problem that refuses it.
function callerOf(request) {
  const header = request.headers.get("authorization");
  if (header === null && PUBLIC_READS && request.method === "GET") return [ANONYMOUS];
  if (!header?.startsWith("Bearer ")) return [null, PROBLEMS.notAuthenticated];
  let caller = verified.get(header);
  if (caller === undefined) {
    try {
      caller = verify(header);
    } catch {
      caller = null; // malformed
    }
    if (caller === null) return [null, PROBLEMS.invalidToken];
    if (verified.size >= CACHED_TOKENS) verified.delete(verified.keys().next().value);
    verified.set(header, caller);
  }
  return caller.exp * 1000 > Date.now() ? [caller] : [null, PROBLEMS.invalidToken];
}

// ---------------------------------------------------------------------------------------------------------- responses
let requests = 0;

function headersFor(request, more) {
  return {
    ...HEADERS,
    "Content-Type": "application/json; charset=utf-8",
    "X-Request-ID": request.headers.get("x-request-id") ?? `req-${(++requests).toString(36)}`,
    ...more,
  };
}

const respond = (request, body, more, status = 200) => new Response(body, { status, headers: headersFor(request, more) });

function refuse(request, [status, slug, title, detail, challenge]) {
  const headers = headersFor(request, { "Content-Type": "application/problem+json" });
  const problem = { type: `/problems/${slug}`, title, status, detail, instance: headers["X-Request-ID"] };
  if (challenge) headers["WWW-Authenticate"] = challenge;
  return new Response(JSON.stringify(problem), { status, headers });
}

const invalid = (detail) => [422, "validation", "Problem", detail];

// Rows are arrays in the order of the statements' columns.
const asPost = ([id, title, content, published, created_at, updated_at, version, owner_id, username, joined, upvotes, downvotes, my_vote]) =>
  ({ id, title, content, published, created_at: moment(created_at), updated_at: moment(updated_at), version, owner_id, username, joined: moment(joined), upvotes, downvotes, my_vote });

const quoted = JSON.stringify;
const asJson = (p) =>
  `{"id":${p.id},"title":${quoted(p.title)},"content":${quoted(p.content)},"published":${p.published},` +
  `"created_at":"${p.created_at}","updated_at":"${p.updated_at}","version":${p.version},"owner_id":${p.owner_id},` +
  `"owner":{"id":${p.owner_id},"username":${quoted(p.username)},"created_at":"${p.joined}"},` +
  `"votes":${p.upvotes - p.downvotes},"upvotes":${p.upvotes},"downvotes":${p.downvotes},"my_vote":${p.my_vote}}`;

// ------------------------------------------------------------------------------------------------------------- routes
// Each takes the request and its caller, and returns a response or a problem.

const whole = (text, least) => (/^\d{1,15}$/.test(text) && Number(text) >= least ? Number(text) : null);

async function list(request, { values, of }) {
  const kind = { limit: DEFAULT_LIMIT };
  const mark = request.url.indexOf("?");
  if (mark !== -1) {
    const query = new URLSearchParams(request.url.slice(mark + 1));
    if (query.has("limit")) kind.limit = whole(query.get("limit"), 1);
    if (kind.limit === null || kind.limit > 100) return invalid("limit: from 1 to 100");
    if (query.has("owner_id")) kind.owner = whole(query.get("owner_id"), 1);
    if (kind.owner === null) return invalid("owner_id: the number of an account");
    if (query.has("published") && query.get("published") !== "false") return invalid("published: false, or absent");
    kind.drafts = query.has("published");
    if (query.has("cursor")) kind.after = positionOf(query.get("cursor"));
    if (kind.after === null) return PROBLEMS.invalidCursor;
  }
  const rows = await ask(of.list(kind).text, [...values, ...(kind.owner ? [kind.owner] : []), ...(kind.after ?? [])]);
  if (rows.length === 0 && of === ofSession && (await ask(CALLER, values)).length === 0) return PROBLEMS.invalidToken;
  const page = rows.slice(0, kind.limit).map(asPost);
  const link = links(kind, rows.length > kind.limit && page.at(-1));
  return respond(request, `[${page.map(asJson).join(",")}]`, { Link: link });
}

async function get(request, { values, of }) {
  const id = whole(request.params.id, 0);
  if (id === null) return invalid("id: the number of a post");
  const [row] = await ask(of.get, [...values, id]);
  if (row === undefined) return PROBLEMS.invalidToken;
  if (row[0] === null) return PROBLEMS.postNotFound(id);
  const post = asPost(row);
  const tag = { ETag: entityTag(post) };
  if (request.headers.get("if-none-match") === tag.ETag) return respond(request, null, tag, 304);
  return respond(request, asJson(post), tag);
}

const isText = (value, most) => typeof value === "string" && value.length <= most && /\S/.test(value);

async function create(request, { values, of }) {
  const body = await request.json().catch(() => null);
  const published = body?.published ?? true;
  if (!isText(body?.title, 300) || !isText(body.content, 65536) || typeof published !== "boolean") {
    return invalid("title and content: texts; published: true or false");
  }
  const title = body.title.trim();
  const [row] = await ask(of.add, [...values, title, body.content, published, title.toLowerCase()]);
  if (row === undefined) return PROBLEMS.invalidToken;
  const post = asPost(row);
  return respond(request, asJson(post), { Location: `/posts/${post.id}`, ETag: entityTag(post) }, 201);
}

async function vote(request, { values, of }) {
  const id = whole(request.params.id, 0);
  const body = await request.json().catch(() => null);
  const dir = body?.dir;
  if (id === null || (dir !== 1 && dir !== -1)) return invalid("id: the number of a post; dir: 1 or -1");
  const [row] = await ask(of.vote, [...values, id, dir]);
  let [up, down, message] = row ? [row[0], row[1], voteMessage(row[2])] : [];
  if (row === undefined) {
    const [tally] = await ask(of.tally, [...values, id]);
    if (tally === undefined) return PROBLEMS.invalidToken;
    if (tally[0] === null) return PROBLEMS.postNotFound(id);
    [, up, down] = tally;
    message = UNCHANGED;
  }
  return respond(
    request,
    `{"message":"${message}","post_id":${id},"dir":${dir},"votes":${up - down},"upvotes":${up},"downvotes":${down}}`,
  );
}

const route = (handle) => async (request) => {
  const [caller, problem] = callerOf(request);
  if (problem !== undefined) return refuse(request, problem);
  const response = await handle(request, caller);
  return Array.isArray(response) ? refuse(request, response) : response;
};

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: PORT,
  reusePort: true,
  idleTimeout: 60,
  maxRequestBodySize: BODY_LIMIT,
  routes: {
    "/posts": { GET: route(list), POST: route(create) },
    "/posts/:id": { GET: route(get) },
    "/posts/:id/vote": { PUT: route(vote) },
  },
  fetch: (request) => refuse(request, [404, "not-found", "Not found", "no such page"]),
  error(error) {
    console.error(error);
    return new Response(null, { status: 500 });
  },
});

process.on("SIGTERM", async () => {
  await server.stop();
  await sql.close();
  process.exit(0);
});
