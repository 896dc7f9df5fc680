// The script of a small web application: plays the video of its address, as anybody, and says what the policy refused.
const refused = [];
document.addEventListener("securitypolicyviolation", (event) => {
  refused.push(`${event.effectiveDirective} ${event.blockedURI}`);
});

const say = (outcome) => {
  const whole = { ...outcome, refused, inline: window.inline === true, title: document.title };
  window.outcome = whole;
  if (window.parent !== window) window.parent.postMessage(whole, "*");
};

const play = async () => {
  const [, videoId] = location.pathname.match(/^\/(?:watch|embed)\/([^/]+)$/);
  const answer = await fetch(`/api/v1/watch/${videoId}`);
  if (!answer.ok) return say({ status: answer.status });
  const shown = await answer.json();
  const poster = document.getElementById("poster");
  poster.src = shown.posterUrl;
  await poster.decode();
  const video = document.getElementById("video");
  const errors = [];
  const hls = new Hls();
  hls.on(Hls.Events.ERROR, (_, data) => {
    errors.push(data.details);
    if (data.fatal) say({ errors });
  });
  hls.on(Hls.Events.MANIFEST_PARSED, () => video.play());
  video.addEventListener("timeupdate", () => {
    if (video.currentTime > 2) say({ time: video.currentTime, poster: poster.naturalWidth, errors });
  });
  hls.loadSource(shown.playbackUrl);
  hls.attachMedia(video);
};

// A policy that let this through would let through whatever else stands in the page.
const forbidden = document.createElement("script");
forbidden.textContent = "window.inline = true";
document.head.append(forbidden);
play().catch((error) => say({ error: String(error) }));
