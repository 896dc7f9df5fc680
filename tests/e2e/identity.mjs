// Drives the unmodified supabase-js against the address in argv, and prints what came back as one JSON document.
import { createHash, randomBytes } from "node:crypto";
import { createClient } from "@supabase/supabase-js";

const [base, email, password] = process.argv.slice(2);

// Node 20 has no WebSocket of its own, without which createClient throws; nothing here opens one.
class NoSocket {}

function memory() {
  const kept = new Map();
  return {
    getItem: (key) => kept.get(key) ?? null,
    setItem: (key, value) => void kept.set(key, value),
    removeItem: (key) => void kept.delete(key),
  };
}

function client() {
  return createClient(base, "sb_publishable_anything", {
    auth: { flowType: "pkce", autoRefreshToken: false, persistSession: true, storage: memory() },
    realtime: { transport: NoSocket },
  });
}

const code = (answer) => ({ status: answer.error?.status ?? 0, code: answer.error?.code ?? "" });
const told = {};

const first = client();
const signedUp = await first.auth.signUp({ email, password, options: { data: { name: "Ada" } } });
told.signUp = { email: signedUp.data.user?.email, name: signedUp.data.user?.user_metadata.name, ...code(signedUp) };
told.session = Boolean(signedUp.data.session?.access_token);
told.duplicate = code(await client().auth.signUp({ email, password }));
told.weak = code(await client().auth.signUp({ email: `w${email}`, password: "short" }));
told.wrong = code(await client().auth.signInWithPassword({ email, password: "not the password" }));
told.unknown = code(await client().auth.signInWithPassword({ email: `u${email}`, password }));

const second = client();
const signedIn = await second.auth.signInWithPassword({ email: email.toUpperCase(), password });
told.signIn = code(signedIn);
const user = await second.auth.getUser();
told.getUser = { email: user.data.user?.email, identities: user.data.user?.identities?.length, ...code(user) };
const claims = await second.auth.getClaims();
told.getClaims = { alg: claims.data?.header.alg, role: claims.data?.claims.role, ...code(claims) };

const api = await fetch(`${base}/api/v1/videos`, {
  headers: { Authorization: `Bearer ${signedIn.data.session.access_token}` },
});
told.api = api.status;

const zero = signedIn.data.session.refresh_token;
const one = await second.auth.refreshSession();
told.refresh = { changed: one.data.session?.refresh_token !== zero, ...code(one) };
const tab = client();
const parent = await tab.auth.refreshSession({ refresh_token: zero });
told.parent = { same: parent.data.session?.refresh_token === one.data.session.refresh_token, ...code(parent) };
const updated = await second.auth.updateUser({ data: { city: "London" }, password: `${password}!` });
told.update = { city: updated.data.user?.user_metadata.city, ...code(updated) };
told.firstEnded = code(await first.auth.getUser());
await second.auth.refreshSession();
told.reused = code(await client().auth.refreshSession({ refresh_token: zero }));
told.family = code(await second.auth.refreshSession());
told.refreshUnknown = code(await client().auth.refreshSession({ refresh_token: "nothing" }));

for (const scope of ["others", "local", "global"]) {
  const here = client();
  const there = client();
  await here.auth.signInWithPassword({ email, password: `${password}!` });
  await there.auth.signInWithPassword({ email, password: `${password}!` });
  const out = await here.auth.signOut({ scope });
  told[`signOut_${scope}`] = {
    here: Boolean((await here.auth.getSession()).data.session),
    there: code(await there.auth.getUser()).code,
    ...code(out),
  };
}

// supabase-js reads its verifier from the storage, where signInWithOAuth has left it.
const storage = memory();
const flow = createClient(base, "sb_publishable_anything", {
  auth: { flowType: "pkce", autoRefreshToken: false, storage, storageKey: "flow" },
  realtime: { transport: NoSocket },
});
const verifier = randomBytes(32).toString("hex");
told.challenge = createHash("sha256").update(verifier).digest("base64url");
storage.setItem("flow-code-verifier", JSON.stringify(verifier));
told.exchangeUnknown = code(await flow.auth.exchangeCodeForSession("00000000-0000-4000-8000-000000000000"));

console.log(JSON.stringify(told));
